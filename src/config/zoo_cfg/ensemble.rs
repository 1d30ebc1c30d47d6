//! The servers that a `zoo.cfg` lists. One that is made for a cluster is refused: the same file on three
//! machines would give three trees.

use std::fs;
use std::path::Path;

use super::ZooCfgError;
use super::properties::properties;

pub(super) struct Ensemble {
    participants: Vec<Server>,
    observers: Vec<Server>,
    /// Whether one participant may serve without the others' protocol.
    standalone_enabled: bool,
}

struct Server {
    file: String,
    line: usize,
    key: String,
}

impl Default for Ensemble {
    fn default() -> Self {
        Self {
            participants: Vec::new(),
            observers: Vec::new(),
            standalone_enabled: true,
        }
    }
}

impl Ensemble {
    pub(super) fn add(
        &mut self,
        file: &str,
        line: usize,
        key: &str,
        value: &str,
    ) -> Result<(), ZooCfgError> {
        let fail = |problem| Err(ZooCfgError::at(file, line, key, problem));
        match (key, value.to_ascii_lowercase().as_str()) {
            ("standaloneEnabled", "true") => self.standalone_enabled = true,
            ("standaloneEnabled", "false") => self.standalone_enabled = false,
            ("standaloneEnabled", _) => {
                return fail(format!(
                    "`{value}` is not allowed here: give `true` or `false`"
                ));
            }
            ("dynamicConfigFile", _) => match fs::read_to_string(value) {
                Ok(text) => self.add_all(value, &text),
                Err(problem) => return fail(format!("cannot read {value}: {problem}")),
            },
            _ => self.add_server(file, line, key, value),
        }
        Ok(())
    }

    fn add_all(&mut self, file: &str, text: &str) {
        for property in properties(text) {
            if property.key.starts_with("server.") {
                self.add_server(file, property.line, &property.key, &property.value);
            }
        }
    }

    /// `HOST:PORT:PORT:ROLE;CLIENT_PORT`, where the role may be left out.
    fn add_server(&mut self, file: &str, line: usize, key: &str, value: &str) {
        let server = Server {
            file: file.to_owned(),
            line,
            key: key.to_owned(),
        };
        let peers = value.split(';').next().unwrap_or_default().trim();
        let role = peers.rsplit(':').next().unwrap_or_default();
        if role.eq_ignore_ascii_case("observer") {
            self.observers.push(server);
        } else {
            self.participants.push(server);
        }
    }

    /// As in ZooKeeper, one server that lists itself only runs alone.
    pub(super) fn check(&self, data_dir: Option<&str>) -> Result<Option<String>, ZooCfgError> {
        let Some(first) = self.participants.iter().chain(&self.observers).next() else {
            return Ok(None);
        };
        let count = self.participants.len() + self.observers.len();
        if count == 1 && self.participants.len() == 1 && self.standalone_enabled {
            let Server { file, line, key } = first;
            return Ok(Some(format!(
                "{file}:{line}: {key} has no effect: it is the only server, so it runs alone"
            )));
        }
        let servers = if count == 1 { "server" } else { "servers" };
        let problem = match my_id(data_dir) {
            Some(id) => format!(
                "this file makes a cluster of {count} {servers}, of which this is {id}, and clusters \
                 are not supported yet: remove the `server.` lines to serve alone, with a tree of its own"
            ),
            None => format!(
                "this file makes a cluster of {count} {servers}, but {} does not say which of them this \
                 is, so ZooKeeper would not start either; clusters are not supported yet: remove the \
                 `server.` lines to serve alone, with a tree of its own",
                my_id_file(data_dir)
            ),
        };
        Err(ZooCfgError::at(
            &first.file,
            first.line,
            &first.key,
            problem,
        ))
    }
}

fn my_id(data_dir: Option<&str>) -> Option<String> {
    let text = fs::read_to_string(Path::new(data_dir?).join("myid")).ok()?;
    Some(text.trim().to_owned())
}

fn my_id_file(data_dir: Option<&str>) -> String {
    data_dir.map_or("the file `myid`".to_owned(), |folder| {
        Path::new(folder).join("myid").display().to_string()
    })
}
