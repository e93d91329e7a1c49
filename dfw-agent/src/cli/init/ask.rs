//! Questions on a terminal, each with a proposal that an empty line takes.

use std::io::{self, BufRead, Write};

use crate::{
    cli::Error,
    exit::{ExitCode, Failure},
};

/// Whoever answers: a person line by line, or nobody, who takes every proposal.
pub(super) enum Answers<R> {
    Of(R),
    Proposed,
}

impl<R: BufRead> Answers<R> {
    /// One of several words.
    pub(super) fn choose<'w>(
        &mut self,
        out: &mut impl Write,
        question: &str,
        words: &[&'w str],
        proposed: &'w str,
    ) -> Result<&'w str, Error> {
        let question = format!("{question} {} [{proposed}]", words.join(", "));
        loop {
            let Some(answer) = self.line(out, &question)? else {
                return Ok(proposed);
            };
            match words.iter().find(|word| **word == answer) {
                Some(word) => return Ok(word),
                None if answer.is_empty() => return Ok(proposed),
                None => writeln!(out, "one of {}, please", words.join(", "))?,
            }
        }
    }

    /// Yes or no.
    pub(super) fn agree(
        &mut self,
        out: &mut impl Write,
        question: &str,
        proposed: bool,
    ) -> Result<bool, Error> {
        let both = if proposed { "[Y/n]" } else { "[y/N]" };
        let question = format!("{question} {both}");
        loop {
            let Some(answer) = self.line(out, &question)? else {
                return Ok(proposed);
            };
            match answer.as_str() {
                "" => return Ok(proposed),
                "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => writeln!(out, "y or n, please")?,
            }
        }
    }

    /// A line in small letters; none where nobody is asked.
    fn line(&mut self, out: &mut impl Write, question: &str) -> Result<Option<String>, Error> {
        let Self::Of(input) = self else {
            return Ok(None);
        };
        write!(out, "{question} ")?;
        out.flush()?;
        let mut line = String::new();
        match input.read_line(&mut line) {
            Ok(0) => {
                writeln!(out)?;
                Err(given_up("there was no answer"))
            }
            Ok(_) => Ok(Some(line.trim().to_lowercase())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some("?".to_owned())),
            Err(error) => Err(given_up(&format!("cannot read the answer: {error}"))),
        }
    }
}

/// The end before anything was done.
pub(super) fn given_up(why: &str) -> Error {
    Failure::new(
        ExitCode::Failure,
        format!("{why}: nothing was written"),
        "run it again when you are ready",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(input: &str) -> (Result<&'static str, Error>, String) {
        let mut out = Vec::new();
        let chosen =
            Answers::Of(input.as_bytes()).choose(&mut out, "Which:", &["unit", "none"], "unit");
        (chosen, String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn an_empty_line_takes_the_proposal_and_nonsense_is_asked_again() {
        assert!(matches!(asked("\n"), (Ok("unit"), said) if said == "Which: unit, none [unit] "));
        assert!(matches!(asked(" None \n"), (Ok("none"), _)));
        let (chosen, said) = asked("nine\nnone\n");
        assert!(matches!(chosen, Ok("none")));
        assert!(said.contains("one of unit, none, please\n"), "{said}");
    }

    #[test]
    fn the_end_of_input_is_no_consent() {
        for input in ["", "nine\n"] {
            let (chosen, _) = asked(input);
            assert!(
                matches!(&chosen, Err(Error::Failure(failure)) if failure.message.contains("nothing was written")),
                "{chosen:?}"
            );
        }
        let mut out = Vec::new();
        assert!(
            Answers::Of(&b""[..])
                .agree(&mut out, "Write?", true)
                .is_err()
        );
        assert!(matches!(
            Answers::Of(&b"maybe\nno\n"[..]).agree(&mut out, "Write?", true),
            Ok(false)
        ));
        assert!(
            Answers::Of(&b"\xff\n"[..])
                .agree(&mut out, "Write?", true)
                .is_err()
        );
    }

    #[test]
    fn no_may_be_proposed() {
        let mut out = Vec::new();
        for (input, agreed) in [("\n", false), ("Y\n", true), ("no\n", false)] {
            let answer = Answers::Of(input.as_bytes()).agree(&mut out, "Draft?", false);
            assert!(matches!(answer, Ok(said) if said == agreed), "{input:?}");
        }
    }

    #[test]
    fn nobody_agrees_to_everything_in_silence() {
        let mut out = Vec::new();
        let mut nobody: Answers<&[u8]> = Answers::Proposed;
        assert!(matches!(nobody.agree(&mut out, "Write?", true), Ok(true)));
        assert!(matches!(
            nobody.choose(&mut out, "Which:", &["a", "b"], "b"),
            Ok("b")
        ));
        assert!(out.is_empty());
    }
}
