//! Schemes of tags: strict entities, as `seqeval` 1.2.2 has them with `mode="strict"` and a scheme,
//! which scheme some tags are in, and tags of one scheme in another.
//!
//! A tag is a letter and a type, `B-PER`, or `O`. What the letters say of an entity's words:
//!
//! | scheme | first | between | last | only | |
//! |---|---|---|---|---|---|
//! | IOB2 (BIO) | B | I | I | B | |
//! | IOB1 | I | I | I | I | B for a first one, directly behind another entity of the type |
//! | IOE2 | I | I | E | E | |
//! | IOBES | B | I | E | S | |
//! | BILOU | B | I | L | U | |
//!
//! Strictly, what breaks the scheme is no entity: an `I-PER` that nothing began is nothing in IOB2.
//! Without a scheme ([`Entities::add`]) it is.
//!
//! ```
//! use engraft::reports::{entities::Entities, scores::schemes::Scheme};
//! let (truth, predicted) = (["B-PER", "I-PER", "O"], ["I-PER", "I-PER", "O"]);
//! let (mut lenient, mut strict) = (Entities::new(), Entities::new());
//! lenient.add(&truth, &predicted);
//! Scheme::Iob2.count(&mut strict, &truth, &predicted)?;
//! assert_eq!((lenient.micro().f1, strict.micro().f1), (1.0, 0.0));
//!
//! assert_eq!(Scheme::Iob1.convert(&predicted, Scheme::Iobes)?, ["B-PER", "E-PER", "O"]);
//! # Ok::<(), engraft::Error>(())
//! ```
use crate::{
    error::{Error, Result},
    reports::entities::{Entities, Entity},
};
use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    str::FromStr,
};

/// What the letters of tags say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `B` begins every entity.
    Iob2,
    /// `B` begins an entity directly behind another one of its type, `I` all others.
    Iob1,
    /// `E` ends every entity.
    Ioe2,
    /// `B` begins an entity and `E` ends it; `S` is one of a single word.
    Iobes,
    /// [`Scheme::Iobes`] with `L` for `E` and `U` for `S`.
    Bilou,
}

/// Whether two tags are of one type.
#[derive(Clone, Copy, PartialEq)]
enum Types {
    Same,
    Different,
    Any,
}
use Types::{Any, Different, Same};
/// The letter of the tag before, the letter of a tag, and their types.
type Pattern = (&'static str, &'static str, Types);

const LETTERS: &str = "IOBESUL";
const IOB_INSIDE: &[Pattern] = &[("BI", "I", Same)];

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
impl FromStr for Scheme {
    type Err = String;

    fn from_str(name: &str) -> Result<Scheme, String> {
        Scheme::named(name).ok_or_else(|| {
            let names = Scheme::ALL.map(Scheme::name).join(", ");
            format!("`{name}` is no scheme of tags; there are {names}, and bio for iob2")
        })
    }
}
crate::by_text!(Scheme);

impl Scheme {
    /// All of them.
    pub const ALL: [Scheme; 5] = [Scheme::Iob2, Scheme::Iob1, Scheme::Ioe2, Scheme::Iobes, Scheme::Bilou];

    /// Its name, as options and reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Iob2 => "iob2",
            Scheme::Iob1 => "iob1",
            Scheme::Ioe2 => "ioe2",
            Scheme::Iobes => "iobes",
            Scheme::Bilou => "bilou",
        }
    }
    /// The scheme of a name, in any case; `bio` is IOB2.
    pub fn named(name: &str) -> Option<Scheme> {
        let name = name.to_ascii_lowercase();
        let all = Scheme::ALL.into_iter();
        if name == "bio" { Some(Scheme::Iob2) } else { all.into_iter().find(|s| s.name() == name) }
    }
    /// The letters that it knows.
    pub fn letters(self) -> &'static str {
        match self {
            Scheme::Iob2 | Scheme::Iob1 => "BIO",
            Scheme::Ioe2 => "IOE",
            Scheme::Iobes => "BIOES",
            Scheme::Bilou => "BILOU",
        }
    }
    /// Where an entity begins.
    fn begins(self) -> &'static [Pattern] {
        match self {
            Scheme::Iob2 => &[(LETTERS, "B", Any)],
            Scheme::Iob1 => &[("OB", "I", Any), ("I", "I", Different), ("IB", "B", Same)],
            Scheme::Ioe2 => &[("OE", "IE", Any), ("I", "IE", Different)],
            Scheme::Iobes => &[(LETTERS, "BS", Any)],
            Scheme::Bilou => &[(LETTERS, "BU", Any)],
        }
    }
    /// Where one goes on.
    fn goes_on(self) -> &'static [Pattern] {
        match self {
            Scheme::Iob2 | Scheme::Iob1 => IOB_INSIDE,
            Scheme::Ioe2 => &[("I", "IE", Same)],
            Scheme::Iobes => &[("BI", "IE", Same)],
            Scheme::Bilou => &[("BI", "IL", Same)],
        }
    }
    /// Where one has ended with the tag before.
    fn has_ended(self) -> &'static [Pattern] {
        match self {
            Scheme::Iob2 => &[("BI", "OB", Any), ("BI", "I", Different)],
            Scheme::Iob1 => &[("BI", "O", Any), ("BI", "I", Different), ("I", "B", Any), ("B", "B", Same)],
            Scheme::Ioe2 => &[("E", LETTERS, Any)],
            Scheme::Iobes => &[("SE", LETTERS, Any)],
            Scheme::Bilou => &[("UL", LETTERS, Any)],
        }
    }

    /// Counts a sentence into `entities`, strictly: the tags of its words, in truth and as
    /// predicted. A letter that the scheme does not know is an error, and nothing is counted.
    pub fn count(self, entities: &mut Entities, truth: &[&str], predicted: &[&str]) -> Result<()> {
        let (in_truth, in_prediction) = (self.entities(truth)?, self.entities(predicted)?);
        entities.count((truth, &in_truth), (predicted, &in_prediction));
        Ok(())
    }
    /// The strict entities of a sentence: type, first word, last word.
    pub fn entities(self, tags: &[&str]) -> Result<HashSet<Entity>> {
        let mut tags: Vec<Tag> =
            tags.iter().enumerate().map(|(i, t)| self.tag(i, t)).collect::<Result<_>>()?;
        tags.push(OUTSIDE);
        let mut found = HashSet::new();
        let (mut i, mut before) = (0, OUTSIDE);
        while i < tags.len() {
            let mut next = i + 1;
            if is_one(self.begins(), before, tags[i]) {
                while next < tags.len() && is_one(self.goes_on(), tags[next - 1], tags[next]) {
                    next += 1;
                }
                // an `O` stands behind the last word, where nothing goes on
                if next < tags.len() && is_one(self.has_ended(), tags[next - 1], tags[next]) {
                    found.insert((tags[i].kind.to_string(), i, next - 1));
                }
            }
            before = tags[next - 1];
            i = next;
        }
        Ok(found)
    }
    /// A tag of this scheme, or an error that names it and its word.
    fn tag(self, word: usize, tag: &str) -> Result<Tag<'_>> {
        let mut rest = tag.chars();
        match rest.next().filter(|letter| self.letters().contains(*letter)) {
            Some(letter) => {
                let kind = rest.as_str().trim_matches('-');
                Ok(Tag { letter, kind: if kind.is_empty() { "_" } else { kind } })
            }
            None => Err(Error::Labels(format!(
                "the tag `{tag}` of word {} is none of {}: its first letter must be one of {}",
                word + 1,
                self.name(),
                self.letters()
            ))),
        }
    }

    /// The tags of a sentence in another scheme. No word leaves its entity: what breaks this scheme
    /// is read as [`Entities::add`] reads it, so that an `I` behind `O` or another type begins an
    /// entity. A letter that this scheme does not know is an error.
    pub fn convert(self, tags: &[&str], to: Scheme) -> Result<Vec<String>> {
        let read: Vec<Tag> = tags.iter().enumerate().map(|(i, t)| self.tag(i, t)).collect::<Result<_>>()?;
        let at = |i: Option<usize>| i.and_then(|i| read.get(i)).copied().unwrap_or(OUTSIDE);
        let is_out = |tag: Tag| tag.letter == 'O';
        let is_first = |i: usize| {
            let (before, tag) = (at(i.checked_sub(1)), at(Some(i)));
            let apart =
                matches!(tag.letter, 'B' | 'S' | 'U') || matches!(before.letter, 'E' | 'L' | 'S' | 'U');
            !is_out(tag) && (apart || is_out(before) || before.kind != tag.kind)
        };
        let letter = |i: usize| {
            let (before, tag, first) = (at(i.checked_sub(1)), at(Some(i)), is_first(i));
            let last = is_out(at(Some(i + 1))) || is_first(i + 1);
            match to {
                _ if is_out(tag) => 'O',
                Scheme::Iob1 if first && !is_out(before) && before.kind == tag.kind => 'B',
                Scheme::Ioe2 if last => 'E',
                Scheme::Iob1 | Scheme::Ioe2 => 'I',
                Scheme::Iobes if first && last => 'S',
                Scheme::Iobes if last => 'E',
                Scheme::Bilou if first && last => 'U',
                Scheme::Bilou if last => 'L',
                Scheme::Iob2 | Scheme::Iobes | Scheme::Bilou if first => 'B',
                Scheme::Iob2 | Scheme::Iobes | Scheme::Bilou => 'I',
            }
        };
        Ok(tags.iter().enumerate().map(|(i, tag)| format!("{}{}", letter(i), &tag[1..])).collect())
    }
}

/// Which scheme tags are in, by their letters alone: what `seqeval` finds where it is told to be
/// strict and no scheme is named. IOB1 is never found, since its letters are those of IOB2; see
/// [`detect`].
pub fn of_letters<'a>(tags: impl IntoIterator<Item = &'a str>) -> Option<Scheme> {
    let letters: Option<BTreeSet<char>> = tags.into_iter().map(|tag| tag.chars().next()).collect();
    let letters = letters.filter(|all| all.iter().all(|letter| LETTERS.contains(*letter)))?;
    let only = |allowed: &str| letters.iter().all(|letter| allowed.contains(*letter));
    let has = |letter: char| letters.contains(&letter);
    let found = [
        (Scheme::Iob2, has('B') && only("BIO")),
        (Scheme::Ioe2, has('E') && only("IOE")),
        // `S` and `U` beside `B` and an end, or nothing but them, as `seqeval` lists it
        (Scheme::Iobes, (has('B') && has('E') && only("BIOES")) || (has('S') && only("S"))),
        (Scheme::Bilou, (has('B') && has('L') && only("BILOU")) || (has('U') && only("U"))),
    ];
    found.into_iter().find(|(_, is_it)| *is_it).map(|(scheme, _)| scheme)
}

/// Which scheme sentences are in: that of their letters, or IOB1, where some `I` begins an entity
/// and every `B` stands directly behind an entity of its type.
pub fn detect(sentences: &[Vec<&str>]) -> Option<Scheme> {
    let tags = || sentences.iter().flatten().copied();
    let is_iob = tags().all(|tag| tag.starts_with(['B', 'I', 'O']));
    let begins = |letter: char, behind_its_type: bool| {
        sentences.iter().any(|tags| {
            (0..tags.len()).any(|i| {
                let before = if i == 0 { "O" } else { tags[i - 1] };
                let is_behind = !before.starts_with('O') && before.get(1..) == tags[i].get(1..);
                tags[i].starts_with(letter) && is_behind == behind_its_type
            })
        })
    };
    if is_iob && begins('I', false) && !begins('B', false) { Some(Scheme::Iob1) } else { of_letters(tags()) }
}

#[derive(Clone, Copy)]
struct Tag<'a> {
    letter: char,
    kind: &'a str,
}
const OUTSIDE: Tag<'static> = Tag { letter: 'O', kind: "_" };

fn is_one(patterns: &[Pattern], before: Tag, tag: Tag) -> bool {
    patterns.iter().any(|(was, is, types)| {
        was.contains(before.letter)
            && is.contains(tag.letter)
            && (*types == Any || (*types == Same) == (before.kind == tag.kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        text.split(' ').collect()
    }
    fn count(scheme: Scheme, sentences: &[(&str, &str)]) -> Entities {
        let mut entities = Entities::new();
        for (truth, predicted) in sentences {
            scheme.count(&mut entities, &split(truth), &split(predicted)).unwrap();
        }
        entities
    }

    #[test]
    fn golden() {
        let e = count(
            Scheme::Iob2,
            &[("B-PER I-PER O B-LOC", "I-PER I-PER O B-LOC"), ("O B-ORG I-ORG O", "O B-ORG I-LOC O")],
        );
        let micro = e.micro();
        assert_eq!((micro.precision, micro.recall, micro.support), (0.5, 1.0 / 3.0, 3));
        assert!((micro.f1 - 0.4).abs() < 1e-12 && e.accuracy() == 0.75);
        let micro = count(Scheme::Iobes, &[("B-PER E-PER S-PER", "B-PER I-PER S-PER")]).micro();
        assert_eq!((micro.precision, micro.recall), (1.0, 0.5));
    }
    #[test]
    fn a_foreign_letter_is_named() {
        let mut entities = Entities::new();
        for (tags, named) in [("B-PER E-PER", "`E-PER` of word 2"), ("O  O", "`` of word 2"), ("é", "`é`")]
        {
            let error =
                Scheme::Iob2.count(&mut entities, &split(tags), &split(tags)).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("iob2"), "{error}");
        }
        assert_eq!(entities.words(), 0);
        // a type loses its dashes at both ends, and may have others
        let found = Scheme::Iob2.entities(&["B--x-y-", "B-"]).unwrap();
        assert_eq!(found, HashSet::from([("x-y".into(), 0, 0), ("_".into(), 1, 1)]));
        Scheme::Bilou.convert(&["B-x", "E-x"], Scheme::Iob2).unwrap_err();
    }
    #[test]
    fn tags_go_from_scheme_to_scheme() {
        let all = [
            (Scheme::Iob1, "I-a I-a B-a I-b O I-b B-b I-b I"),
            (Scheme::Iob2, "B-a I-a B-a B-b O B-b B-b I-b B"),
            (Scheme::Ioe2, "I-a E-a E-a E-b O E-b I-b E-b E"),
            (Scheme::Iobes, "B-a E-a S-a S-b O S-b B-b E-b S"),
            (Scheme::Bilou, "B-a L-a U-a U-b O U-b B-b L-b U"),
        ];
        for (from, tags) in all {
            for (to, expected) in all {
                assert_eq!(from.convert(&split(tags), to).unwrap().join(" "), expected);
            }
            assert_eq!(from.entities(&split(tags)).unwrap().len(), 6, "{}", from.name());
            assert_eq!(detect(&[split(tags)]), Some(from));
            assert_eq!(Scheme::named(&from.name().to_uppercase()), Some(from));
        }
        // what is broken is mended, and no word gets lost
        let broken = split("I-a O I-b I-c B-c");
        assert_eq!(Scheme::Iob2.convert(&broken, Scheme::Iob2).unwrap().join(" "), "B-a O B-b B-c B-c");
        assert_eq!((Scheme::named("bio"), Scheme::named("pos")), (Some(Scheme::Iob2), None));
    }
    #[test]
    fn schemes_are_detected() {
        assert_eq!(of_letters(["I-a", "O", "B-a"]), Some(Scheme::Iob2));
        assert_eq!(of_letters(["I-a", "O"]), None);
        assert_eq!(of_letters(["O"]), None);
        assert_eq!(of_letters(["", "B-a"]), None);
        assert_eq!(of_letters(["NOUN", "VERB"]), None);
        assert_eq!(detect(&[split("I-a O"), split("O I-b")]), Some(Scheme::Iob1));
        assert_eq!(detect(&[split("I-a O"), split("O B-b")]), Some(Scheme::Iob2), "IOB2 that is broken");
        assert_eq!(detect(&[]), None);
    }
}
