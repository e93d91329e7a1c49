//! The paths that a source file names: `use` trees, expressions, types, and what is inside macros alike.

use std::iter::Peekable;

use proc_macro2::{Delimiter, TokenStream, TokenTree, token_stream::IntoIter};

/// A path such as `std::fs::read`, and the line it starts on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// Every path in these tokens, groups of a `use` spelled out. A single word is a path too.
pub(super) fn named(tokens: TokenStream) -> Vec<Named> {
    let mut found = Vec::new();
    collect(tokens, &[], &mut found);
    found
}

/// `prefix` is what stands before the braces of a `use` group; elsewhere it is empty.
fn collect(tokens: TokenStream, prefix: &[String], found: &mut Vec<Named>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) => {
                let line = ident.span().start().line;
                let mut segments = prefix.to_vec();
                segments.push(ident.to_string());
                let group = follow(&mut tokens, &mut segments);
                match group {
                    Some(inner) => collect(inner, &segments, found),
                    None => found.push(Named { segments, line }),
                }
            }
            TokenTree::Group(group) => collect(group.stream(), &[], found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Reads on while `::` and a word follow; returns the group of `::{…}` if the path ends in one.
fn follow(tokens: &mut Peekable<IntoIter>, segments: &mut Vec<String>) -> Option<TokenStream> {
    while takes_punct(tokens, ':') && takes_punct(tokens, ':') {
        match tokens.peek() {
            Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                return Some(group.stream());
            }
            Some(TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_)) | None => {
                return None;
            }
        }
        tokens.next();
    }
    None
}

fn takes_punct(tokens: &mut Peekable<IntoIter>, wanted: char) -> bool {
    let next =
        tokens.next_if(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == wanted));
    next.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        let tokens = source.parse().expect("test source is Rust");
        named(tokens)
            .into_iter()
            .map(|named| named.segments.join("::"))
            .collect()
    }

    #[test]
    fn groups_are_spelled_out() {
        let found = paths("use std::{fs, time::{Duration, Instant as Now}};");
        assert!(found.contains(&"std::fs".to_owned()));
        assert!(found.contains(&"std::time::Instant".to_owned()));
    }

    #[test]
    fn expressions_types_and_macros_are_seen_and_text_is_not() {
        assert!(paths("fn f() { ::std::fs::read(x) }").contains(&"std::fs::read".to_owned()));
        assert!(paths("type T = Vec<aya::Ebpf>;").contains(&"aya::Ebpf".to_owned()));
        assert!(paths("m! { y => tokio::spawn(y) }").contains(&"tokio::spawn".to_owned()));
        let text = paths("// std::fs\nconst S: &str = \"std::fs\";");
        assert!(!text.iter().any(|path| path.starts_with("std")));
    }

    #[test]
    fn a_single_colon_ends_a_path() {
        assert_eq!(paths("a: b::c, d"), ["a", "b::c", "d"]);
    }
}
