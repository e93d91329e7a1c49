//! The deny lists that the node's policy file names, read from their files.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use crate::{
    model::Finding,
    policy::{Blocks, DenyLists, MAX_LIST_BYTES, NodePolicy},
};

/// Reads all lists of a policy file, which lies at `policy`.
///
/// # Errors
/// Every mistake, with its place: then none of the lists is taken over.
pub fn read(node: &NodePolicy, policy: &Path) -> Result<Arc<Blocks>, Vec<Finding>> {
    let mut lists = DenyLists::new(&node.denied);
    for list in &node.deny_files {
        // As the policy file's own directory has it; an absolute path stays what it is.
        let path = policy.parent().unwrap_or(Path::new("")).join(&list.path);
        let name = path.display().to_string();
        match contents(&path) {
            Ok(text) => lists.add(&name, &text),
            Err(error) => lists.mistake(
                &list.place,
                format!("cannot read the deny list {name}: {error}"),
            ),
        }
    }
    lists.finish().map(|nets| Arc::new(Blocks::of(nets)))
}

fn contents(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    // A byte too many is told; no more are taken into memory.
    File::open(path)?
        .take(MAX_LIST_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > MAX_LIST_BYTES {
        let what =
            format!("it is longer than {MAX_LIST_BYTES} bytes: split it, or join neighbours");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    // What is no text is no address either, and told with its line.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
