//! System calls behind safe functions: sockets, descriptors handed over, processes, clocks, files, logs.
//!
//! The only crate that may say `unsafe`; nothing here knows HTTP or the configuration.
#![allow(unsafe_code)]

pub mod clock;
pub mod credentials;
pub mod datagram;
pub mod epoll;
pub mod errlog;
pub mod errno;
pub mod event;
pub mod fdpass;
pub mod file;
pub mod io;
pub mod limits;
pub mod listen;
pub mod process;
pub mod readiness;
pub mod ring;
pub mod signal;
pub mod socket;
pub mod symlinks;
mod syscall;
pub mod syslog;
pub mod tcp;
pub mod thread;
pub mod transfer;
