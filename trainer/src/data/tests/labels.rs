//! Labels that are numbers, sets of labels, and texts without one.
use super::*;

#[test]
fn labels_are_numbers_where_these_are_asked_for() {
    let want = Want { content: Content::Values, labels: true };
    let values = |name: &str, text: &str| {
        let data = parse(name, text, &Columns::default(), want)?;
        Ok::<_, crate::Error>(data.records.into_iter().map(|r| r.label).collect::<Vec<_>>())
    };
    let all = [3.0, -0.5, 2.5e3].map(Label::Value);
    assert_eq!(values("a.csv", "text,label\na,3\nb, -.5\nc,2.5e3\n").unwrap(), all);
    let objects = [("a", "3"), ("b", "\"-0.5\""), ("c", "2500.0")]
        .map(|(text, label)| format!("{{\"text\":\"{text}\",\"label\":{label}}}\n"));
    assert_eq!(values("a.jsonl", &objects.concat()).unwrap(), all);
    for (label, why) in [
        ("x", "the label `x` is no number"),
        ("nan", "the label `nan` is no number"),
        ("1e39", "the label `1e39` is no number"),
        (" ", "the label is empty; --skip-unlabelled"),
    ] {
        let error = values("a.csv", &format!("text,label\na,1\nb,{label}\n")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("a.csv:3: {why}")), "{error}");
    }
    let error = values("a.jsonl", r#"{"text":"a","label":[1]}"#).unwrap_err().to_string();
    assert_eq!(error, "a.jsonl:1: label `label` must be a string, a number or a boolean, not a list");
    let error = values("a.jsonl", r#"{"text":"a","label":NaN}"#).unwrap_err().to_string();
    assert!(error.contains("not NaN or Infinity"), "{error}");
}

#[test]
fn labels_are_sets_where_these_are_asked_for() {
    let want = Want { content: Content::LabelSets, labels: true };
    let sets = |name: &str, text: &str, separator: Option<&str>| {
        let columns = Columns { label_separator: separator.map(Into::into), ..Columns::default() };
        let data = parse(name, text, &columns, want)?;
        let one = |r: &Record| r.labels().map(String::from).collect::<Vec<_>>();
        Ok::<_, crate::Error>(data.records.iter().map(one).collect::<Vec<_>>())
    };
    let all = [vec!["x", "y z"], vec![], vec!["x"]];
    assert_eq!(sets("a.tsv", "text\tlabel\na\tx | y z\nb\t \nc\tx\n", None).unwrap(), all);
    assert_eq!(sets("a.csv", "text,label\na,\"x, y z\"\nb,\nc,x\n", Some(",")).unwrap(), all);
    let objects = r#"{"text":"a","label":["x","y z"]}
{"text":"b","label":[]}
{"text":"c","label":[" x"]}"#;
    assert_eq!(sets("a.jsonl", objects, None).unwrap(), all);
    assert_eq!(sets("a.jsonl", r#"{"text":"a","label":[1.0,true]}"#, None).unwrap(), [["1", "true"]]);
    for (name, text, why) in [
        ("a.tsv", "text\tlabel\na\tx|\n", "a.tsv:2: a label in `x|` is empty"),
        ("a.jsonl", r#"{"text":"a","label":"x"}"#, "a.jsonl:1: field `label` must be a list, not a string"),
        ("a.jsonl", r#"{"text":"a","label":[" "]}"#, "a.jsonl:1: a label in `label` is empty"),
        ("a.jsonl", r#"{"text":"a","label":[null]}"#, "a.jsonl:1: label `label` must be a string"),
        ("a.jsonl", r#"{"text":"a","label":null}"#, "a.jsonl:1: the label is empty; --skip-unlabelled"),
    ] {
        let error = sets(name, text, None).unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}, expected {why}");
    }
}

#[test]
fn what_has_no_label_is_left_out_if_asked_for() {
    let columns = Columns { skip_unlabelled: true, ..Columns::default() };
    let read = |name: &str, text: &str, content| {
        let data = parse(name, text, &columns, Want { content, labels: true })?;
        Ok::<_, crate::Error>(data.records.iter().map(|r| r.line).collect::<Vec<_>>())
    };
    let table = "text\tlabel\na\tx\nb\t-1\nc\t \nd\ty\n";
    assert_eq!(read("a.tsv", table, Content::Texts).unwrap(), [2, 5]);
    assert_eq!(read("a.tsv", "text\tlabel\na\t-1\nb\t\n", Content::Values).unwrap(), [2]);
    let objects =
        "{\"text\":\"a\",\"label\":-1}\n{\"text\":\"b\",\"label\":0}\n{\"text\":\"c\",\"label\":null}\n";
    assert_eq!(read("a.jsonl", objects, Content::Texts).unwrap(), [2]);
    let error = read("a.tsv", "text\tlabel\na\t-1\n", Content::Texts).unwrap_err().to_string();
    assert_eq!(error, "a.tsv: no record of it has a label");
    // where no labels are needed nothing is left out
    let want = Want { content: Content::Texts, labels: false };
    assert_eq!(parse("a.tsv", table, &columns, want).unwrap().len(), 4);
}
