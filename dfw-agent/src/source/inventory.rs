//! Endpoints from a file, for hosts without Docker.

mod parse;

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::time::{Interval, MissedTickBehavior, interval};

use self::parse::{Mistake, parse};
use super::{Source, SourceStatus};
use crate::model::{Finding, Level, Snapshot};

/// How often the file is looked at. Looking is one stat(2), and sees a rename, a symbolic link that points elsewhere and a
/// file system that tells no news.
const LOOK: Duration = Duration::from_millis(500);

/// An inventory file, read again when it changes.
#[derive(Debug)]
pub struct InventorySource {
    path: PathBuf,
    stamp: Stamp,
    snapshot: Snapshot,
    findings: Vec<Finding>,
    status: SourceStatus,
    fresh: bool,
    look: Interval,
}

/// An inventory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The file cannot be read.
    #[error("cannot read the inventory {}: {source}; check --inventory", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file has a mistake.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Mistake {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong and what to do.
        message: String,
    },
}

/// By what a change is seen; none while the file cannot be read.
type Stamp = Option<(u64, u64, u64, Option<SystemTime>)>;

impl InventorySource {
    /// Reads the file and begins to watch it. Needs a tokio runtime.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, InventoryError> {
        let path = path.into();
        // The stamp is taken first: a change in between is read twice, not missed.
        let stamp = stamp(&path);
        let snapshot = read(&path)?;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let status = SourceStatus {
            connected: true,
            synced: true,
            events: 0,
            resyncs: 1,
        };
        Ok(Self {
            path,
            stamp,
            snapshot,
            findings: Vec::new(),
            status,
            fresh: true,
            look,
        })
    }

    /// Whether anything differs after a look at the file.
    fn look(&mut self) -> bool {
        let now = stamp(&self.path);
        if now == self.stamp {
            return false;
        }
        self.stamp = now;
        self.status.events += 1;
        let (snapshot, findings) = match read(&self.path) {
            Ok(snapshot) => {
                self.status.resyncs += 1;
                (Some(snapshot), Vec::new())
            }
            Err(error) => {
                tracing::error!(%error, "the inventory is not taken over; the last good one stays in force");
                let what = format!("{error}; the last good inventory stays in force");
                (
                    None,
                    vec![Finding::new(Level::Error, "bad-inventory", "", what)],
                )
            }
        };
        self.status.connected = findings.is_empty();
        let snapshot = snapshot.filter(|snapshot| *snapshot != self.snapshot);
        let differs = snapshot.is_some() || findings != self.findings;
        self.findings = findings;
        self.snapshot = snapshot.unwrap_or_else(|| std::mem::take(&mut self.snapshot));
        differs
    }
}

impl Source for InventorySource {
    fn name(&self) -> &'static str {
        "inventory"
    }

    async fn changed(&mut self) {
        while !std::mem::take(&mut self.fresh) {
            self.look.tick().await;
            self.fresh = self.look();
        }
    }

    fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn status(&self) -> SourceStatus {
        self.status
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        metadata.modified().ok(),
    ))
}

fn read(path: &Path) -> Result<Snapshot, InventoryError> {
    let text = fs::read_to_string(path).map_err(|source| InventoryError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(
        |Mistake {
             line,
             column,
             message,
         }| InventoryError::Mistake {
            path: path.to_owned(),
            line,
            column,
            message,
        },
    )
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn entry(name: &str) -> String {
        format!("[[endpoint]]\nname = \"{name}\"\ninterface = \"veth-{name}\"\nnetwork = \"n\"\n")
    }

    fn names(source: &InventorySource) -> Vec<&str> {
        source
            .snapshot()
            .containers
            .iter()
            .map(|container| container.name.as_str())
            .collect()
    }

    async fn changes(source: &mut InventorySource) -> bool {
        timeout(Duration::from_secs(3), source.changed())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn the_file_is_watched() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("inventory.toml");
        let write = |text: &str| fs::write(&path, text).expect("the file can be written");
        write(&entry("db"));
        let mut source = InventorySource::open(&path).expect("valid");
        assert!(
            changes(&mut source).await,
            "the first wait ends with the first reading"
        );
        assert_eq!(names(&source), ["db"]);

        write(&(entry("db") + &entry("api")));
        assert!(changes(&mut source).await);
        assert_eq!(names(&source), ["db", "api"]);

        write("[[endpoint]]\nname = 1");
        assert!(changes(&mut source).await);
        assert_eq!(names(&source), ["db", "api"]);
        assert!(
            source.findings()[0]
                .message
                .contains("inventory.toml:2:8: "),
            "{:?}",
            source.findings()
        );
        assert!(!source.status().connected);

        fs::remove_file(&path).expect("the file is there");
        assert!(changes(&mut source).await);
        assert_eq!((names(&source).len(), source.findings().len()), (2, 1));

        let other = directory.path().join("other.toml");
        fs::write(&other, entry("web")).expect("the file can be written");
        fs::rename(&other, &path).expect("the file can be renamed");
        assert!(changes(&mut source).await);
        assert_eq!((names(&source), source.findings()), (vec!["web"], &[][..]));
        assert_eq!(
            source.status(),
            SourceStatus {
                connected: true,
                synced: true,
                events: 4,
                resyncs: 3
            }
        );
    }

    #[tokio::test]
    async fn a_bad_file_at_the_start_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("inventory.toml");
        let error = InventorySource::open(&path).expect_err("no file");
        assert!(error.to_string().contains("check --inventory"), "{error}");
        fs::write(&path, "x").expect("the file can be written");
        let error = InventorySource::open(&path).expect_err("bad file");
        assert!(
            error.to_string().contains("inventory.toml:1:2: "),
            "{error}"
        );
    }
}
