//! What descriptors are watched for, and what is told of them, be it by epoll or by io_uring.
//!
//! Both tell it by the same bits.

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes, and the end of them.
    Readable,
    /// Room.
    Writable,
    /// Both.
    Both,
}

impl Interest {
    /// As `epoll_ctl(2)` and `poll(2)` want it, with the same bits.
    pub(crate) fn flags(self) -> libc::c_int {
        let readable = libc::EPOLLIN | libc::EPOLLRDHUP;
        match self {
            Self::Readable => readable,
            Self::Writable => libc::EPOLLOUT,
            Self::Both => readable | libc::EPOLLOUT,
        }
    }
}

/// What has happened to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The name that it was added under.
    pub token: u64,
    flags: libc::c_int,
}

impl Event {
    fn has(self, flag: libc::c_int) -> bool {
        self.flags & flag != 0
    }

    /// Something can be read, be it an error.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self.has(libc::EPOLLIN | libc::EPOLLERR | libc::EPOLLHUP)
    }

    /// There is room, or an error that sending would tell of.
    #[must_use]
    pub fn is_writable(self) -> bool {
        self.has(libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP)
    }

    /// The peer sends nothing more.
    #[must_use]
    pub fn is_read_closed(self) -> bool {
        self.has(libc::EPOLLRDHUP | libc::EPOLLHUP)
    }

    /// No more is told of the descriptor until it is watched anew; never so with epoll.
    #[must_use]
    pub fn has_ended(self) -> bool {
        self.has(libc::EPOLLONESHOT)
    }
}

/// Room for what a wait tells.
#[derive(Debug)]
pub struct Events {
    pub(crate) list: Box<[libc::epoll_event]>,
    pub(crate) count: usize,
}

impl Events {
    /// Room for so many events of one wait, at least one.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        let list = vec![libc::epoll_event { events: 0, u64: 0 }; count.max(1)].into_boxed_slice();
        Self { list, count: 0 }
    }

    /// What another kind of wait told: names and flags, and whether that was the last of the name.
    pub(crate) fn fill(&mut self, told: impl Iterator<Item = (u64, libc::c_int, bool)>) {
        self.count = 0;
        for (event, (token, flags, has_ended)) in self.list.iter_mut().zip(told) {
            let flags = if has_ended { flags | libc::EPOLLONESHOT } else { flags };
            *event = libc::epoll_event { events: flags.cast_unsigned(), u64: token };
            self.count += 1;
        }
    }

    /// What the last wait told.
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        let told = self.list.get(..self.count).unwrap_or_default();
        told.iter().map(|event| Event { token: event.u64, flags: event.events.cast_signed() })
    }
}
