//! Files as other programs write them.
use super::*;
use crate::reports::progress::Mode;

#[test]
fn pandas_row_numbers_are_a_column_without_a_name() {
    for head in [",text,label", "Unnamed: 0,text,label", "\"\",\"text\",\"label\"", ",Unnamed: 0,text,label"]
    {
        let row = |n: usize, text: &str, label: &str| {
            let numbers = format!("{n},").repeat(head.matches(',').count() - 1);
            format!("{numbers}{text},{label}\n")
        };
        let text = format!("{head}\n{}{}", row(0, "the bus was late", "x"), row(1, "good fine", "y"));
        let data = read("a.csv", text).unwrap();
        assert_eq!(seen(&data), [("the bus was late", Some("x"), 2), ("good fine", Some("y"), 3)], "{head}");
    }
    // a delimiter behind the last cell
    let data = read("a.csv", "text,label,\na b,x,\nc d,y,\n").unwrap();
    assert_eq!(seen(&data), [("a b", Some("x"), 2), ("c d", Some("y"), 3)]);
    assert!(
        refused("a.csv", "text,label\na b,x,\n").contains("a.csv:2: 3 columns where the first row has 2")
    );
    // an empty cell makes no header out of data
    assert!(refused("a.tsv", "\tgood\nfine\tgood\n").contains("a.tsv:1: the text is empty"));
    assert!(refused("a.csv", ",body,mark\n0,a,b\n").contains("--label-column INDEX"));
    assert!(refused("a.csv", "text,text,label\na,b,c\n").contains("--header yes"));
    let yes = Columns { header: Header::Yes, ..Columns::default() };
    let error = parse("a.csv", "text,text,label\na,b,c\n", &yes, LABELS).unwrap_err().to_string();
    assert!(error.contains("several columns could be meant: `text` and `text`"), "{error}");
}

#[test]
fn quoted_tsv_is_read_when_asked_for() {
    let text = "text\tlabel\r\n\"the \"\"bus\"\"\twas\r\nlate\"\t\"x\"\r\n\t\r\nfine\ty\n";
    let csv = Columns { quotes: Quotes::Csv, ..Columns::default() };
    let error = parse("a.tsv", text, &csv, LABELS).unwrap_err().to_string();
    assert_eq!(error, "a.tsv:4: the text is empty");
    let text = text.replace("\t\r\n", "");
    let data = parse("a.tsv", &text, &csv, LABELS).unwrap();
    assert_eq!(seen(&data), [("the \"bus\"\twas\r\nlate", Some("x"), 2), ("fine", Some("y"), 4)]);
    let error = refused("a.tsv", "text\tlabel\n\"the\nbus\"\tx\n");
    assert_eq!(
        error,
        "a.tsv:2: 1 column where the first row has 2; cells with line breaks in quotes are read with --quotes csv"
    );
}

#[test]
fn a_header_in_quotes_is_asked_about() {
    let quoted = "\"text\"\t\"label\"\n\"fine day\"\t\"x\"\n\"bad day\"\t\"y\"\n";
    let error = refused("a.tsv", quoted);
    assert!(error.starts_with("a.tsv:1: the first row seems to be column names in quotes"), "{error}");
    let csv = Columns { quotes: Quotes::Csv, ..Columns::default() };
    assert_eq!(seen(&parse("a.tsv", quoted, &csv, LABELS).unwrap())[0], ("fine day", Some("x"), 2));
    // as R writes it
    let error = refused("a.tsv", "\"text\"\t\"label\"\n\"1\"\t\"fine day\"\t\"x\"\n");
    assert!(error.contains("--quotes csv"), "{error}");
}

#[test]
fn cells_that_look_quoted_are_noted_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tsv");
    std::fs::write(&path, "text\tlabel\n\"Hi\" he\tx\n\"Hi\"\ty\n\"a \"\"b\"\"\"\tx\n\"\"\"c\"\"\"\ty\n")
        .unwrap();
    let files = Files::new(std::slice::from_ref(&path), &Columns::default(), LABELS).unwrap();
    let text = files.read().unwrap().records[2].text().into_owned();
    files.survey().unwrap();
    assert_eq!(text, "\"a \"\"b\"\"\"");
    let place = format!("{}:4: quotes are read as they stand, as in \"a \"\"b\"\"\"; ", path.display());
    assert_eq!(files.notes(), [place + "--quotes csv takes them away"]);
    let csv = Columns { quotes: Quotes::Csv, ..Columns::default() };
    let files = Files::new(&[path], &csv, LABELS).unwrap();
    assert_eq!(files.read().unwrap().records[2].text(), "a \"b\"");
    assert!(files.notes().is_empty());
}

#[test]
fn labels_are_found_as_they_stand_or_but_for_blanks() {
    let labels = |names: &[&str]| Labels::from_names(names.iter().map(|n| n.to_string()).collect()).unwrap();
    let find = |names: &[&str], label: &str| labels(names).find(&Name::of_text(label));
    assert_eq!(find(&[" x", " y"], " y"), Some(1));
    assert_eq!(find(&["x", "y"], " y "), Some(1));
    assert_eq!(find(&[" x", " y"], "y"), Some(1), "nothing else can be meant");
    assert_eq!(find(&[" y", "y"], "y"), Some(1), "exactly so first");
    assert_eq!(find(&[" y", "y"], " y"), Some(0));
    assert_eq!(find(&[" y", "y ", "x"], "y"), None, "either could be meant");
    assert_eq!(labels(&["1.0", "2"]).find(&Name::of_value("1.0").unwrap()), Some(0), "of an older head");
    assert_eq!(labels(&["1", "2"]).find(&Name::of_value("2.0").unwrap()), Some(1));
    let text = "text, label\n\"the bus\", x\n\"fine\", y\n";
    let named = columns("", "", "label", Header::Auto);
    let data = parse("a.csv", text, &named, LABELS).unwrap();
    assert_eq!(labels(&[" x", " y"]).ids_of(&data).unwrap(), [0, 1]);
    assert_eq!(data.names().into_iter().collect::<Vec<_>>(), ["x", "y"], "what is learned has no blanks");
}

#[test]
fn json_numbers_are_labels_by_value() {
    let labels = |lines: &[&str]| {
        let text: String = lines.iter().map(|l| format!("{{\"text\":\"a\",\"label\":{l}}}\n")).collect();
        let data = read("a.jsonl", text).unwrap();
        Labels::learn(&data.path, data.names()).unwrap().names().to_vec()
    };
    assert_eq!(labels(&["1", "1.0", "0", "10e-1"]), ["0", "1"]);
    let large = ["18446744073709551616", "18446744073709551617"];
    assert_eq!(labels(&large), large);
    assert_eq!(labels(&["\"1.0\"", "1.0"]), ["1", "1.0"], "a string is its characters");
}

#[test]
fn fields_that_nobody_reads_stop_nobody() {
    let text =
        "{\"text\":\"a\",\"label\":1,\"score\":NaN}\n{\"text\":\"b\",\"label\":0,\"user\":\"\\ud83d\"}\n";
    assert_eq!(seen(&read("a.jsonl", text).unwrap()).len(), 2);
    let words = "{\"tokens\":[\"a\"],\"ner_tags\":[\"O\"],\"x\":[Infinity]}\n";
    assert_eq!(parse_words("a.jsonl", words, &Columns::default(), true).unwrap().len(), 1);
    let error = refused("a.jsonl", "{\"text\":\"\\ud83d\",\"label\":1}\n");
    assert!(error.starts_with("a.jsonl:1: field `text` is not JSON: "), "{error}");
    let error = refused("a.jsonl", "{\"text\":\"a\",\"label\":NaN}\n");
    assert!(error.contains("a.jsonl:1: label `label`") && error.contains("NaN"), "{error}");
}

#[test]
fn several_files_are_one_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("b.csv"), "label,text\nx,one\ny,two\n").unwrap();
    std::fs::write(path("a.tsv.gz"), gz(b"text\tlabel\nthree\tz\n")).unwrap();
    std::fs::write(path("c.jsonl"), "{\"text\":\"four\",\"label\":1}\n").unwrap();
    std::fs::write(path("pairs.tsv"), "sentence1\tsentence2\tlabel\na\tb\tx\n").unwrap();
    std::fs::write(path("[d].tsv"), "text\tlabel\nfive\n").unwrap();
    let files = |names: &[&str]| {
        let paths: Vec<_> = names.iter().map(|n| path(n)).collect();
        Files::new(&expand(&paths, Purpose::Train, Mode::Quiet)?, &Columns::default(), LABELS)
    };
    let all = files(&["b.csv", "a.tsv.gz", "c.jsonl"]).unwrap();
    let texts = |files: &Files| -> Vec<String> {
        files.read().unwrap().records.iter().map(|r| r.text().into_owned()).collect()
    };
    assert_eq!(texts(&all), ["one", "two", "three", "four"]);
    assert_eq!(all.survey().unwrap().names.found().iter().collect::<Vec<_>>(), ["1", "x", "y", "z"]);
    assert_eq!(all.parts().map(|part| part.unwrap().path).collect::<Vec<_>>().len(), 3);
    assert_eq!(texts(&files(&["[abc]*"]).unwrap()), ["three", "one", "two", "four"], "in the order of names");
    let refused = |names: &[&str]| files(names).and_then(|f| f.read()).unwrap_err().to_string();
    let place = path("[d].tsv").display().to_string();
    assert_eq!(refused(&["b.csv", "[d].tsv"]), format!("{place}:2: 1 column where the first row has 2"));
    assert!(
        refused(&["b.csv", "pairs.tsv"]).contains("pairs.tsv: a second text for each text, and none in ")
    );
    assert!(refused(&["*.xyz"]).contains("no file has a name like this"));
    assert!(refused(&["a***"]).contains("no pattern"));
}

#[test]
fn a_format_may_be_asked_for() {
    let asked = |name: &str, format: &str, text: &str| {
        let columns = Columns { format: Some(format.into()), ..Columns::default() };
        parse(name, text, &columns, LABELS).map_err(|e| e.to_string())
    };
    assert_eq!(asked("a.log", "csv", "text,label\na,x\n").unwrap().len(), 1);
    assert_eq!(asked("a.csv", "jsonl", "{\"text\":\"a\",\"label\":\"x\"}").unwrap().len(), 1);
    let error = asked("a.csv", "conll", "a O\n").unwrap_err();
    assert_eq!(
        error,
        "`format` cannot be `conll`: for this task it is tsv, csv, jsonl, ndjson, parquet or arrow"
    );
    let stdin = Files::new(&["-".into()], &Columns::default(), LABELS).unwrap_err().to_string();
    assert_eq!(
        stdin,
        "stdin: nothing says how to read it: pass --format tsv, csv, jsonl, ndjson, parquet or arrow"
    );
}

#[test]
fn parts_are_small_and_miss_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tsv");
    let rows: String = (0..5000).map(|i| format!("text {i}\t{}\n", i % 3)).collect();
    let long = "long ".repeat(200_000);
    std::fs::write(&path, format!("text\tlabel\n{rows}{long}\tx\nlast\ty\n")).unwrap();
    let files = Files::new(&[path], &Columns::default(), LABELS).unwrap();
    let parts: Vec<Dataset> = files.parts().collect::<Result<_>>().unwrap();
    assert!(parts.len() > 5 && parts.iter().all(|p| p.len() <= 1024));
    let lines: Vec<usize> = parts.iter().flat_map(|p| p.records.iter().map(|r| r.line)).collect();
    assert_eq!(lines, (2..5004).collect::<Vec<_>>());
}
