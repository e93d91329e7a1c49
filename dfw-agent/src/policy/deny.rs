//! Deny lists: whose packets no uplink lets in (docs/semantics.md section 17). Text in, nets out.

use std::net::IpAddr;

use dfw_common::maps::DENIED_MAX;
use ipnet::IpNet;

use super::{parse::MAX_PROBLEMS, problem::shown};
use crate::model::{Finding, Level};

/// Bytes of a list that are read; a longer one is an error.
pub const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;

/// A list that the node's policy file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenyFile {
    /// Where it lies; seen from the policy file's directory.
    pub path: String,
    /// `FILE:LINE:COLUMN` of its name in the policy file.
    pub place: String,
}

/// The lists of a node, joined.
#[derive(Debug, Default)]
pub struct DenyLists {
    nets: Vec<IpNet>,
    mistakes: Vec<Finding>,
}

impl DenyLists {
    /// Of the prefixes that stand in the policy file itself.
    pub fn new(inline: &[IpNet]) -> Self {
        Self {
            nets: inline.to_vec(),
            mistakes: Vec::new(),
        }
    }

    /// Reads a list: an address or a CIDR a line. What follows `#` or `;` is a comment.
    pub fn add(&mut self, name: &str, text: &str) {
        for (number, line) in (1..).zip(text.lines()) {
            let word = line.split(['#', ';']).next().unwrap_or_default().trim();
            if word.is_empty() {
                continue;
            }
            if self.mistakes.len() >= MAX_PROBLEMS {
                return;
            }
            match net(word) {
                Ok(net) => self.nets.push(net),
                Err(what) => self.mistake(&format!("{name}:{number}"), what),
            }
        }
    }

    /// A list that cannot be read at all.
    pub fn mistake(&mut self, place: &str, what: String) {
        self.mistakes.push(Finding {
            label: place.to_owned(),
            ..Finding::new(Level::Error, "bad-deny-list", "", what)
        });
    }

    /// All prefixes. One mistake rejects all lists: half of one would let in whom the other half names.
    ///
    /// # Errors
    /// The mistakes, at most 16, each with `FILE:LINE` as its label.
    pub fn finish(mut self) -> Result<Vec<IpNet>, Vec<Finding>> {
        if self.mistakes.is_empty() && self.nets.len() > DENIED_MAX as usize {
            let what = format!(
                "{} prefixes in all: there is room for {DENIED_MAX}; join neighbours, or leave a list out",
                self.nets.len()
            );
            self.mistake("", what);
        }
        if self.mistakes.is_empty() {
            return Ok(self.nets);
        }
        self.mistakes.truncate(MAX_PROBLEMS);
        Err(self.mistakes)
    }
}

/// One prefix of a list.
pub(super) fn net(word: &str) -> Result<IpNet, String> {
    let address = word.parse::<IpAddr>().map(IpNet::from);
    let net = address.or_else(|_| word.parse::<IpNet>()).map_err(|_| {
        format!(
            "{} is no address and no CIDR: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
            shown(word)
        )
    })?;
    if net.trunc() != net {
        let (right, one) = (net.trunc(), net.addr());
        return Err(format!(
            "{net} has host bits set: write {right}, or {one} for the one address"
        ));
    }
    if net.prefix_len() == 0 {
        return Err(format!(
            "{net} is everybody, and would lock everybody out: name whom you mean"
        ));
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<IpNet>, Vec<Finding>> {
        let mut lists = DenyLists::new(&[]);
        lists.add("deny.txt", text);
        lists.finish()
    }

    #[test]
    fn forms_of_a_list() {
        let nets = read("# a feed\r\n192.0.2.0/24 ; SBL1\n\n 2001:db8::/32\n198.51.100.7 # one\n");
        let nets: Vec<String> = nets
            .expect("a list")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(nets, ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32"]);
        assert_eq!(read("").expect("an empty list"), []);
    }

    #[test]
    fn a_mistake_names_the_line_and_the_remedy() {
        let mistakes =
            read("192.0.2.0/24\n192.0.2.1/24\n0.0.0.0/0\n::/0\n1.2.3\n<html>\x1b\n10.0.0.0/33");
        let mistakes = mistakes.expect_err("mistakes");
        let told: Vec<String> = mistakes
            .iter()
            .map(|finding| format!("{}: {}", finding.label, finding.message))
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        deny.txt:2: 192.0.2.1/24 has host bits set: write 192.0.2.0/24, or 192.0.2.1 for the one address
        deny.txt:3: 0.0.0.0/0 is everybody, and would lock everybody out: name whom you mean
        deny.txt:4: ::/0 is everybody, and would lock everybody out: name whom you mean
        deny.txt:5: `1.2.3` is no address and no CIDR: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32
        deny.txt:6: `<html>\u{1b}` is no address and no CIDR: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32
        deny.txt:7: `10.0.0.0/33` is no address and no CIDR: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32
        ");
    }

    #[test]
    fn mistakes_and_prefixes_are_bounded() {
        assert_eq!(
            read(&"x\n".repeat(1_000)).expect_err("mistakes").len(),
            MAX_PROBLEMS
        );
        let many = "192.0.2.1\n".repeat(DENIED_MAX as usize);
        assert_eq!(read(&many).expect("it has room").len(), DENIED_MAX as usize);
        let over = read(&format!("{many}192.0.2.2")).expect_err("too many");
        assert!(over[0].message.contains("room for 120000"), "{over:?}");
    }
}
