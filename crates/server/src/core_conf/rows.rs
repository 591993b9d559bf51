//! The directives of `main` and `events`, each as a row.
//!
//! Those without effect tell the reason, which the operator reads once at load.

use conf::{Arity, Contexts, Row};

const MAIN: Contexts = Contexts::MAIN;
const EVENTS: Contexts = Contexts::EVENTS;

/// The rows of `ngx_core_module`.
pub static ROWS: &[Row] = &Row::of(
    "ngx_core_module",
    [
        Row::new("daemon", MAIN, Arity::FLAG).default("on").doc("Whether the server leaves the terminal."),
        Row::new("master_process", MAIN, Arity::FLAG)
            .default("on")
            .doc("Whether a master without network access keeps the privileges."),
        Row::new("worker_processes", MAIN, Arity::ONE)
            .default("1")
            .doc("Threads of the worker; `auto` is one per processor."),
        Row::new("pid", MAIN, Arity::ONE)
            .default("/run/nginx.pid")
            .doc("File that holds the master's process id."),
        Row::new("user", MAIN, Arity::TAKE12)
            .default("nobody")
            .doc("User and group that the worker runs as."),
        http::error_log::row(MAIN),
        Row::new("env", MAIN, Arity::ONE).many().doc("A variable of the environment to keep or set."),
        Row::new("worker_rlimit_nofile", MAIN, Arity::ONE).doc("Largest number of open files of the worker."),
        Row::new("worker_rlimit_core", MAIN, Arity::ONE).doc("Largest core file of the worker, bytes."),
        Row::new("worker_shutdown_timeout", MAIN, Arity::ONE)
            .doc("Time after which a graceful shutdown closes connections."),
        Row::new("worker_cpu_affinity", MAIN, Arity::MORE1).doc("Processors that the threads are bound to."),
        Row::new("worker_priority", MAIN, Arity::ONE).default("0").doc("Scheduling priority of the worker."),
        Row::new("working_directory", MAIN, Arity::ONE).doc("Directory of the worker, where core files go."),
        Row::new("load_module", MAIN, Arity::ONE).many().doc("A module; all that exist are built in."),
        Row::new("lock_file", MAIN, Arity::ONE)
            .no_effect("threads of one process need no lock file")
            .doc("Prefix of lock files."),
        Row::new("timer_resolution", MAIN, Arity::ONE)
            .no_effect("reading the clock costs no system call")
            .doc("Interval at which the clock is read."),
        Row::new("pcre_jit", MAIN, Arity::FLAG)
            .no_effect("regular expressions are always compiled to machine code")
            .doc("Whether regular expressions are compiled to machine code."),
        Row::new("thread_pool", MAIN, Arity::TAKE23)
            .many()
            .no_effect("there is one pool for reading files")
            .doc("A pool of threads for reading files."),
        Row::new("ssl_engine", MAIN, Arity::ONE)
            .no_effect("TLS does not come from OpenSSL")
            .doc("A device for cryptography."),
        Row::new("ssl_object_cache_inheritable", MAIN, Arity::FLAG)
            .default("on")
            .doc("Whether a reload keeps unchanged keys and certificates."),
        Row::new("debug_points", MAIN, Arity::ONE)
            .no_effect("there are no debug points")
            .doc("What happens when an internal error is found."),
        Row::new("events", MAIN, Arity::NOARGS)
            .block(EVENTS)
            .once()
            .doc("Settings of connection processing."),
        Row::new("worker_connections", EVENTS, Arity::ONE)
            .default("512")
            .doc("Largest number of connections per thread, those to upstream servers included."),
        Row::new("use", EVENTS, Arity::ONE)
            .doc("How readiness is learnt: by io_uring where the system allows it, or by epoll."),
        Row::new("debug_connection", EVENTS, Arity::ONE)
            .many()
            .doc("Clients whose messages are logged at every level."),
        Row::new("multi_accept", EVENTS, Arity::FLAG)
            .no_effect("connections are taken as long as some wait")
            .doc("Whether all waiting connections are accepted at once."),
        Row::new("accept_mutex", EVENTS, Arity::FLAG)
            .no_effect("the kernel wakes one thread per connection")
            .doc("Whether threads accept in turn."),
        Row::new("accept_mutex_delay", EVENTS, Arity::ONE)
            .no_effect("the kernel wakes one thread per connection")
            .doc("Time until a thread tries again to accept."),
        Row::new("worker_aio_requests", EVENTS, Arity::ONE)
            .no_effect("files are not read by asynchronous requests of the kernel")
            .doc("Largest number of asynchronous reads."),
    ],
);
