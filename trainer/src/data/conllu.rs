//! CoNLL-U of Universal Dependencies: ten columns at single tabs, sentences apart by blank lines.
//!
//! Lines that begin with `#` in front of a sentence are comments. Ranges of words (`3-4`) and empty
//! nodes (`3.1`) are no words. A form may hold spaces. Of the columns XPOS, UPOS and DEPREL the
//! value `_` says that there is no label.
use super::columns::{Column, Columns};
use super::conll::Sentence;
use super::format::{Format, Records, records};
use super::lines::Lines;
use super::name::Name;
use super::record::{Chosen, Content, Record, Want};
use super::source::Source;
use crate::error::{Error, Result};

/// The format's row in the registry.
pub(super) const FORMAT: Format = Format { extensions: &["conllu"], contents: &[Content::Words], open };

const COLUMNS: usize = 10;
/// Columns that can be labels, by name and number, and whether `_` is no label there.
const LABELS: [(&str, usize, bool); 4] =
    [("upos", 3, true), ("xpos", 4, true), ("feats", 5, false), ("deprel", 7, true)];

/// Where a word's label stands.
struct Place {
    column: usize,
    /// In MISC: the key.
    key: Option<String>,
    /// Whether `_` is no label.
    open: bool,
}

fn place(label: Option<&Column>) -> Result<Place> {
    let refused = |value: String| {
        let names = LABELS.map(|(name, ..)| name).join(", ");
        let why = format!("a column of CoNLL-U with labels is one of {names}, or misc:KEY");
        Error::Option { option: "label-column", value, why }
    };
    let named = |f: &dyn Fn(&(&str, usize, bool)) -> bool| LABELS.iter().find(|l| f(l));
    let (column, open) = match label {
        None => (3, true),
        Some(Column::Name(name)) => match (name.split_once(':'), named(&|(n, ..)| n == name)) {
            (Some(("misc", key)), _) if !key.is_empty() => {
                return Ok(Place { column: 9, key: Some(key.into()), open: false });
            }
            (_, Some((_, column, open))) => (*column, *open),
            _ => return Err(refused(format!("`{name}`"))),
        },
        Some(Column::Index(i)) => named(&|(_, column, _)| column == i)
            .map(|(_, c, o)| (*c, *o))
            .ok_or_else(|| refused(i.to_string()))?,
    };
    Ok(Place { column, key: None, open })
}

impl Place {
    fn label(&self, cells: &[&str]) -> Option<Name> {
        let cell = cells[self.column];
        let label = match &self.key {
            Some(key) => cell.split('|').filter_map(|pair| pair.split_once('=')).find(|(k, _)| k == key)?.1,
            None if self.open && cell == "_" => return None,
            None => cell,
        };
        Some(Name::of_text(label))
    }
}

fn open(source: Source, columns: &Columns, want: Want) -> Result<(Chosen, Records)> {
    if let Some(column) = &columns.text {
        let why = "the words of CoNLL-U are always its column FORM".into();
        return Err(Error::Option { option: "text-column", value: column.to_string(), why });
    }
    let mut lines = Lines::of(source)?;
    let labels = want.labels || columns.label.is_some();
    let place = place(columns.label.as_ref())?;
    let label = columns.label.as_ref().map_or("upos".into(), ToString::to_string);
    let chosen = Chosen { text: "FORM".into(), label: labels.then_some(label), ..Chosen::default() };
    Ok((chosen, records(move || sentence(&mut lines, &place, labels))))
}

/// The next sentence.
fn sentence(lines: &mut Lines, place: &Place, labels: bool) -> Result<Option<Record>> {
    let mut sentence = Sentence::default();
    let (path, mut number) = (lines.path().clone(), lines.number());
    while let Some(line) = lines.next()? {
        number += 1;
        let bad = |why: String| Err(Error::line(&path, number, why));
        if line.trim_matches([' ', '\t']).is_empty() {
            match std::mem::take(&mut sentence).record(labels) {
                None => continue,
                done => return Ok(done),
            }
        }
        if line.starts_with('#') && sentence.line.is_none() {
            continue;
        }
        let cells: Vec<&str> = line.split('\t').collect();
        if cells.len() != COLUMNS {
            return bad(format!("{} columns; CoNLL-U has {COLUMNS}", cells.len()));
        }
        let digits = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
        match cells[0].split_once(['-', '.']) {
            None if digits(cells[0]) => {}
            Some((a, b)) if digits(a) && digits(b) => continue,
            _ => return bad(format!("`{}` is no word's ID", cells[0])),
        }
        if cells[1].trim().is_empty() || cells[place.column].is_empty() {
            return bad("the form or the label is empty; CoNLL-U writes `_`".into());
        }
        sentence.line.get_or_insert(number);
        sentence.words.push(cells[1].into());
        if labels {
            sentence.tags.push(place.label(&cells));
        }
    }
    Ok(sentence.record(labels))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parse_words, sentences};
    use super::*;
    use crate::data::record::Label;

    const TEXT: &str = "# sent_id = 1\n# text = #1 don't\n\
        1\t#\t#\tSYM\tNN\t_\t0\troot\t_\tSpaceAfter=No\n\
        2\tone 1\tone\t_\tCD\tNumType=Card\t1\tdep\t_\tEntity=B-N|X=y\n\
        3-4\tdon't\t_\t_\t_\t_\t_\t_\t_\t_\n\
        3\tdo\tdo\tAUX\tVBP\t_\t1\taux\t_\t_\n\
        4\tn't\tnot\tPART\tRB\t_\t1\tadvmod\t_\t_\n\
        4.1\tgone\tgo\tVERB\t_\t_\t_\t_\t_\t_\n\r\n";

    fn labels(column: &str) -> Vec<Option<String>> {
        let label = (!column.is_empty()).then(|| column.parse().unwrap());
        let data = parse_words("a.conllu", TEXT, &Columns { label, ..Columns::default() }, true).unwrap();
        match &data.records[0].label {
            Label::Each(tags) => tags.iter().map(|t| t.as_ref().map(|t| t.taken().into())).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_are_whole_ids() {
        let data = parse_words("a.conllu", TEXT, &Columns::default(), true).unwrap();
        assert_eq!(sentences(&data)[0].0, ["#", "one 1", "do", "n't"]);
        assert_eq!((data.records.len(), data.records[0].line), (1, 3));
        let some = |labels: [&str; 4]| labels.map(|l| (l != "_").then(|| l.to_string())).to_vec();
        assert_eq!(labels(""), some(["SYM", "_", "AUX", "PART"]));
        assert_eq!(labels("xpos"), some(["NN", "CD", "VBP", "RB"]));
        assert_eq!(labels("7"), some(["root", "dep", "aux", "advmod"]));
        assert_eq!(labels("misc:Entity"), some(["_", "B-N", "_", "_"]));
        assert_eq!(labels("feats")[1], Some("NumType=Card".into()));
    }

    #[test]
    fn what_is_not_conllu_is_refused() {
        let refused = |text: &str, column: &str| {
            let label = (!column.is_empty()).then(|| column.parse().unwrap());
            parse_words("a.conllu", text, &Columns { label, ..Columns::default() }, true)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(refused("1\tword\n", ""), "a.conllu:1: 2 columns; CoNLL-U has 10");
        assert!(refused(&TEXT.replace("3-4", "3/4"), "").contains("`3/4` is no word's ID"));
        assert!(refused(TEXT, "lemma").contains("upos, xpos, feats, deprel"));
        assert!(refused(TEXT, "2").contains("`label-column` cannot be 2"));
    }
}
