//! Stands in for the crate of this name in zookeeper-client's tests: what they take for a container
//! is a process, started by the program that CONTAINER_COMMAND names, as
//! `PROGRAM TAG PORT SERVER_JVMFLAGS [ZOO_CFG]`. It must print a line once the server serves, or one
//! that begins with "no", and end at the end of its input. Only what those tests call is here.

pub mod clients {
    use crate::core::{Container, RunnableImage};
    use crate::images::generic::GenericImage;

    /// Starts containers.
    #[derive(Default)]
    pub struct Cli;

    impl Cli {
        pub fn run(&self, image: RunnableImage<GenericImage>) -> Container<'_, GenericImage> {
            Container::start_new(image)
        }
    }
}

pub mod core {
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader};
    use std::marker::PhantomData;
    use std::net::TcpListener;
    use std::process::{Child, Command, Stdio};
    use std::sync::Mutex;
    use std::time::Duration;

    use crate::images::generic::GenericImage;

    /// How the tests find out whether a container serves; the started program knows by itself.
    #[derive(Default)]
    pub struct Healthcheck;

    impl Healthcheck {
        pub fn with_cmd<I>(self, _command: I) -> Self {
            self
        }

        pub fn with_interval(self, _interval: Duration) -> Self {
            self
        }

        pub fn with_retries(self, _retries: u32) -> Self {
            self
        }
    }

    pub enum WaitFor {
        Healthcheck,
    }

    /// What a container has printed; only tests of ensembles, which do not get that far, read it.
    pub struct LogStream;

    impl LogStream {
        pub fn wait_for_message(&self, message: &str) -> Result<(), String> {
            Err(format!("not looked for in a log: {message}"))
        }
    }

    /// An image with what one container changes in it.
    pub struct RunnableImage<I> {
        pub(crate) image: I,
        /// Where a file of the host appears in the container.
        volumes: HashMap<String, String>,
    }

    impl From<GenericImage> for RunnableImage<GenericImage> {
        fn from(image: GenericImage) -> Self {
            Self {
                image,
                volumes: HashMap::new(),
            }
        }
    }

    impl<I> RunnableImage<I> {
        pub fn with_volume(mut self, (host, inside): (&str, &str)) -> Self {
            self.volumes.insert(inside.to_owned(), host.to_owned());
            self
        }

        pub fn with_network(self, _network: &str) -> Self {
            self
        }
    }

    /// A running server; ends when dropped.
    pub struct Container<'a, I> {
        port: u16,
        process: Mutex<Option<Child>>,
        command: Vec<String>,
        of: PhantomData<(&'a (), I)>,
    }

    impl Container<'_, GenericImage> {
        pub(crate) fn start_new(image: RunnableImage<GenericImage>) -> Self {
            let program = std::env::var("CONTAINER_COMMAND").expect("CONTAINER_COMMAND is not set");
            let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = probe.local_addr().expect("its address").port();
            drop(probe);
            let flags = image.image.variables.get("SERVER_JVMFLAGS");
            let mut command = vec![program, image.image.tag, port.to_string()];
            command.push(flags.cloned().unwrap_or_default());
            command.extend(image.volumes.get("/conf/zoo.cfg").cloned());
            let container = Self {
                port,
                process: Mutex::new(None),
                command,
                of: PhantomData,
            };
            container.start();
            container
        }
    }

    impl<I> Container<'_, I> {
        pub fn start(&self) {
            let mut child = Command::new(&self.command[0])
                .args(&self.command[1..])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the program of CONTAINER_COMMAND");
            let mut line = String::new();
            let printed = child.stdout.take().expect("its output");
            let read = BufReader::new(printed).read_line(&mut line);
            *self.process.lock().expect("no other user") = Some(child);
            assert!(matches!(read, Ok(1..)), "no server to run this on: {:?}", self.command);
            assert!(!line.starts_with("no "), "{}", line.trim());
        }

        pub fn stop(&self) {
            if let Some(mut child) = self.process.lock().expect("no other user").take() {
                // It ends at the end of its input. (Nobody to tell if it has ended before.)
                drop(child.stdin.take());
                let _ = child.wait();
            }
        }

        pub fn get_host_port(&self, _inside: u16) -> u16 {
            self.port
        }

        pub fn stdout(&self) -> LogStream {
            LogStream
        }
    }

    impl<I> Drop for Container<'_, I> {
        fn drop(&mut self) {
            self.stop();
        }
    }
}

pub mod images {
    pub mod generic {
        use std::collections::HashMap;

        use crate::core::{Healthcheck, WaitFor};

        /// An image by name and tag.
        pub struct GenericImage {
            pub(crate) tag: String,
            pub(crate) variables: HashMap<String, String>,
        }

        impl GenericImage {
            pub fn new(_name: &str, tag: &str) -> Self {
                Self {
                    tag: tag.to_owned(),
                    variables: HashMap::new(),
                }
            }

            pub fn with_env_var(mut self, name: &str, value: String) -> Self {
                self.variables.insert(name.to_owned(), value);
                self
            }

            pub fn with_healthcheck(self, _check: Healthcheck) -> Self {
                self
            }

            pub fn with_wait_for(self, _condition: WaitFor) -> Self {
                self
            }
        }
    }
}
