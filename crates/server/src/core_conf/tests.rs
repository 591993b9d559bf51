//! Tests of the core directives: what they accept, what they make of it, what they say otherwise.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use conf::resources::{LogFile, SocketSpec};
use conf::{Schema, Sources, Style};

use super::*;

/// One file in memory.
struct Memory(HashMap<PathBuf, Arc<[u8]>>);

impl Resources for Memory {
    fn read(&mut self, path: &Path) -> io::Result<Arc<[u8]>> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn glob(&mut self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn socket(&mut self, _: &SocketSpec) -> io::Result<Arc<OwnedFd>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn log(&mut self, path: &Path) -> io::Result<Arc<LogFile>> {
        Ok(Arc::new(LogFile::new(path.to_owned(), std::fs::File::open("/dev/null")?.into())))
    }

    fn directory(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

fn paths() -> Paths {
    let conf_file = PathBuf::from("/p/nginx.conf");
    Paths { prefix: "/p".into(), conf_file, conf_dir: "/p".into(), error_log: None }
}

fn compiled(text: &str) -> Result<(CoreConf, Vec<String>), String> {
    let paths = paths();
    let mut memory = Memory(HashMap::from([(paths.conf_file.clone(), Arc::from(text.as_bytes()))]));
    let mut sources = Sources::new();
    let modules = [Module("stream"), Module("http_image_filter"), Module("http_sub")];
    let result =
        conf::parse(&paths.conf_file, &Schema::new(ROWS), &mut memory, None, &mut sources).and_then(|tree| {
            let mut notices = tree.notices.clone();
            let core = CoreConf::compile(&tree, &paths, &modules, &mut notices)?;
            main_error_log(&tree, &paths, &mut memory)?;
            Ok((core, notices))
        });
    let text = |error: &Error| error.render(&sources, Style::Plain);
    match result {
        Ok((core, notices)) => Ok((core, notices.iter().map(text).collect())),
        Err(error) => Err(text(&error)),
    }
}

#[test]
fn settings() {
    let check = |text: &str, change: fn(&mut CoreConf)| {
        let (core, _) = compiled(&format!("{text} events {{}}")).expect(text);
        let mut expected = CoreConf { credentials: core.credentials.clone(), ..CoreConf::defaults(&paths()) };
        change(&mut expected);
        assert_eq!(core, expected, "{text}");
    };
    check("", |_| {});
    check("daemon off;", |c| c.daemon = Daemon::Foreground);
    check("master_process off;", |c| c.processes = Processes::Single);
    check("worker_processes 3;", |c| c.threads = 3);
    check("worker_processes auto;", |c| c.threads = os::limits::cpu_count());
    check("worker_processes 0;", |c| c.threads = 1);
    check("pid a.pid;", |c| c.pid_file = "/p/a.pid".into());
    check("env A; env B=c=d;", |c| {
        c.env = vec![("A".into(), None), ("B".into(), Some("c=d".into()))];
    });
    check("worker_rlimit_nofile 100000;", |c| c.rlimit_nofile = Some(100_000));
    check("worker_rlimit_core 1g;", |c| c.rlimit_core = Some(1 << 30));
    check("worker_shutdown_timeout 1m;", |c| c.shutdown_timeout_ms = Some(60_000));
    check("worker_cpu_affinity 0101;", |c| c.affinity = Affinity::Masks(vec![vec![0, 2]]));
    check("worker_cpu_affinity auto 110;", |c| c.affinity = Affinity::Auto(vec![1, 2]));
    check("worker_priority -5;", |c| c.priority = -5);
    check("worker_priority +5;", |c| c.priority = 5);
    check("working_directory /tmp;", |c| c.working_directory = Some("/tmp".into()));
    check("error_log a.log debug_core debug_http; error_log stderr;", |_| {});
}

#[test]
fn events() {
    let (core, notices) = compiled(
        "events { use epoll; worker_connections 64; debug_connection 127.0.0.0/8; multi_accept on; }",
    )
    .expect("settings");
    assert_eq!((core.worker_connections, core.method), (64, Method::Epoll));
    assert_eq!(core.debug_connections, Network::parse("127.0.0.0/8").into_iter().collect::<Vec<_>>());
    assert!(notices[0].contains("\"multi_accept\" directive has no effect"), "{notices:?}");
}

#[test]
fn mistakes() {
    let check = |text: &str, expected: &str| {
        let seen = compiled(text).map(drop);
        assert_eq!(seen, Err(expected.to_owned()), "{text}");
    };
    let at = "in /p/nginx.conf:1";
    check("", "no \"events\" section in configuration");
    check(
        "events {} daemon maybe;",
        &format!("invalid value \"maybe\" in \"daemon\" directive, it must be \"on\" or \"off\" {at}"),
    );
    check("worker_processes x; events {}", &format!("\"worker_processes\" directive invalid value {at}"));
    check("worker_priority x; events {}", &format!("\"worker_priority\" directive invalid number {at}"));
    check(
        "worker_cpu_affinity 012; events {}",
        &format!("invalid character \"2\" in \"worker_cpu_affinity\" {at}"),
    );
    check("events { use kqueue; }", &format!("invalid event type \"kqueue\" {at}"));
    check("error_log x loud; events {}", &format!("invalid log level \"loud\" {at}"));
    check("error_log x warn info; events {}", &format!("duplicate log level \"info\" {at}"));
    check("error_log x debug debug_http; events {}", &format!("invalid log level \"debug_http\" {at}"));
    check("error_log syslog:tag=a; events {}", &format!("no syslog server specified {at}"));
    check("pid a; pid b; events {}", &format!("\"pid\" directive is duplicate {at}"));
    check(
        "load_module modules/ngx_http_js_module.so; events {}",
        &format!("module \"ngx_http_js_module.so\" is not built in, and modules cannot be loaded {at}"),
    );
}

#[test]
fn built_in_modules_need_no_loading() {
    for file in ["ngx_stream_module.so", "ngx_http_sub_filter_module.so", "ngx_http_image_filter_module.so"] {
        let text = format!("load_module modules/{file}; events {{}}");
        let (_, notices) = compiled(&text).expect("settings");
        let sentence = format!("\"{file}\" is built in");
        assert!(notices.iter().any(|notice| notice.contains(&sentence)), "{notices:?}");
    }
}

#[test]
fn threads_take_their_processors() {
    let masks = Affinity::Masks(vec![vec![0], vec![1]]);
    assert_eq!(masks.of_thread(1), Some(vec![1]));
    assert_eq!(masks.of_thread(5), Some(vec![1]));
    assert_eq!(Affinity::Auto(vec![3, 5]).of_thread(3), Some(vec![5]));
    assert_eq!(Affinity::Auto(vec![]).of_thread(0), None);
    assert_eq!(Affinity::None.of_thread(0), None);
}

#[test]
fn rows_are_a_proper_table() {
    let mut names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ROWS.len());
    for row in ROWS {
        assert!(!row.doc.is_empty(), "{}", row.name);
        Directive::from_default(row).expect(row.name);
    }
}
