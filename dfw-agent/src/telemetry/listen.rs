//! The two sockets of the agent: a TCP port on loopback, and a Unix socket for the commands.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::{Path, PathBuf},
};

use rustix::{fs::Mode, process::umask};
use tokio::net::{TcpListener, UnixListener};

/// A socket that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The TCP address cannot be bound.
    #[error("cannot listen on {address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process listens on the Unix socket.
    #[error("another agent is running: it answers on {}", .0.display())]
    AgentRunning(PathBuf),
    /// There is something else at the socket's path.
    #[error("{} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The Unix socket cannot be made.
    #[error("cannot make the socket {}", .path.display())]
    Unix {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ListenError {
    /// Whether this user may not do it, but another one might.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Tcp { source, .. } | Self::Unix { source, .. } => {
                source.kind() == io::ErrorKind::PermissionDenied
            }
            Self::AgentRunning(_) | Self::NotASocket(_) => false,
        }
    }

    /// The remedy.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Tcp { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "`ss -ltnp` shows who has the port; end that program, or choose another port with --listen"
            }
            Self::Tcp { .. } => {
                "choose a loopback address of this host and a free port with --listen"
            }
            Self::AgentRunning(_) => {
                "one agent a node is enough; `dfw status` shows it, SIGTERM ends it"
            }
            Self::NotASocket(_) => "remove it, or choose another path with --socket",
            Self::Unix { .. } => {
                "choose a path in a directory that this user may write to with --socket"
            }
        }
    }
}

/// Listens for metrics and health.
pub async fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError::Tcp { address, source })
}

/// A Unix socket's file; removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the socket's file stays behind");
        }
    }
}

/// Listens for commands, with mode 0660 from the first moment. A socket that a killed agent left is replaced. To be called
/// while the process has one thread, because the umask is the process's.
pub fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile), ListenError> {
    let failed = |source| ListenError::Unix {
        path: path.to_owned(),
        source,
    };
    clear(path)?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let before = umask(Mode::from_raw_mode(0o117));
    let bound = UnixListener::bind(path);
    umask(before);
    Ok((bound.map_err(failed)?, SocketFile(path.to_owned())))
}

/// Removes a socket that nobody listens on.
fn clear(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Unix {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::AgentRunning(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::exit::Failure;

    #[tokio::test]
    async fn a_busy_port_is_one_clear_error() {
        let first = bind_tcp("127.0.0.1:0".parse().expect("address"))
            .await
            .expect("a free port");
        let address = first.local_addr().expect("bound");
        let error = bind_tcp(address).await.expect_err("busy");
        insta::assert_snapshot!(
            Failure::from(error).to_string().replace(&address.to_string(), "ADDRESS"),
            @r"
        dfw: error: cannot listen on ADDRESS: Address already in use (os error 98)
        hint: `ss -ltnp` shows who has the port; end that program, or choose another port with --listen
        "
        );
    }

    #[tokio::test]
    async fn the_socket_is_private_and_goes_with_its_guard() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("run/dfw.sock");
        let (listener, file) = bind_unix(&path).expect("bound");
        let mode = fs::metadata(&path).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(matches!(
            bind_unix(&path),
            Err(ListenError::AgentRunning(_))
        ));
        assert!(path.exists(), "a live agent's socket stays");
        drop((listener, file));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_killed_agent_left_is_replaced_and_nothing_else() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("dfw.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "a stale socket");
        drop(bind_unix(&path).expect("replaced"));

        fs::write(&path, "precious").expect("written");
        assert!(matches!(bind_unix(&path), Err(ListenError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    }
}
