//! An adapter knows the backbone that it was trained on, and says so on another one.
mod support;
use support::*;

const WARNING: &str = "warning: ";

/// With adapters trained on the built-in backbone, and another backbone in `other`: one of them
/// folded into it.
fn trained() -> Work {
    let work = Work::new();
    work.train("--adapter lora --lr 1e-2 --out lora");
    work.train("--adapter lora[use_rslora=True] --out peft");
    work.train("--adapter pfeiffer --out one");
    work.run("fold --model MODEL --adapter lora --out other").good();
    work
}
/// Warnings of a run that must succeed.
fn warnings(work: &Work, line: &str) -> Vec<String> {
    let ran = work.run(line).good();
    ran.stderr.lines().filter(|l| l.starts_with(WARNING)).map(String::from).collect()
}

#[test]
fn another_backbone_is_warned_of_by_every_command() {
    let work = trained();
    work.write("ids.json", r#"{"input_ids": [[2, 17, 11, 3]]}"#);
    let fine =
        work.run(&format!("fuse --model MODEL --train train.tsv --adapters one two=one --out fused {SHORT}"));
    assert!(!fine.good().stderr.contains(WARNING));
    let run = format!("--train train.tsv --out x {SHORT}");
    for (adapter, command) in [
        ("lora", "eval --model M --adapter lora --data eval.tsv".to_string()),
        ("peft", "eval --model M --adapter peft --data eval.tsv".into()),
        ("one", "predict --model M --adapter one --text hello".into()),
        ("lora", "inspect --model M --adapter lora".into()),
        ("lora", "forward --model M --adapter lora --ids ids.json --out o.safetensors".into()),
        ("fused/one", "eval --model M --adapter fused --data eval.tsv".into()),
        ("lora", format!("train --model M --init lora {run}")),
        ("one", format!("train --model M --adapters one {run}")),
        ("one", format!("fuse --model M --adapters one two=one {run}")),
        ("peft", "fold --model M --adapter peft --out folded".into()),
        ("lora", "adapters convert lora --to peft --model M --out converted".into()),
        ("one", "adapters merge --model M --adapters one --method adapterhub_linear --out merged".into()),
    ] {
        assert_eq!(warnings(&work, &command.replace(" M ", " MODEL ")), [""; 0], "{command}");
        let found = warnings(&work, &command.replace(" M ", " other "));
        assert!(!found.is_empty(), "{command}");
        let name = backbone().file_name().unwrap().to_str().unwrap();
        let start = format!("warning: {adapter} was trained on the backbone `{name}` (");
        assert!(found[0].starts_with(&start) && found[0].contains("and other is another one ("), "{found:?}");
    }
    // both are named by what they are, and a quiet run says nothing
    let line = &warnings(&work, "eval --model other --adapter lora --data eval.tsv")[0];
    let marks: Vec<&str> = line.split('(').skip(1).map(|part| &part[..12]).collect();
    assert!(marks.len() == 2 && marks[0] != marks[1], "{line}");
    assert!(warnings(&work, "eval --model other --adapter lora --data eval.tsv --quiet").is_empty());
}

#[test]
fn however_the_same_backbone_is_stored_it_is_the_same() {
    let work = trained();
    let eval = |flags: &str| warnings(&work, &format!("eval --adapter lora --data eval.tsv {flags}"));
    for dtype in ["f32", "bf16", "int8", "nf4"] {
        assert!(eval(&format!("--model MODEL --backbone-dtype {dtype}")).is_empty(), "{dtype}");
    }
    // a copy in another storage type is what it was made from, and a copy of that
    work.run("quantize --model MODEL --dtype bf16 --out bf16").good();
    work.run("quantize --model bf16 --dtype int8 --out int8").good();
    work.run("quantize --model other --dtype int8 --out other8").good();
    assert!(eval("--model bf16").is_empty() && eval("--model int8").is_empty());
    assert_eq!(eval("--model other8").len(), 1);
    // and an adapter that was trained on the copy is at home on the source
    work.train("--model int8 --adapter pfeiffer --out on-int8");
    assert!(warnings(&work, "eval --model MODEL --adapter on-int8 --data eval.tsv").is_empty());
    // a name goes with it; what others saved records nothing
    work.run("adapters rename lora other-name --out renamed").good();
    assert_eq!(warnings(&work, "eval --model other --adapter renamed --data eval.tsv").len(), 1);
    let fixture = fixture("houlsby").display().to_string();
    let model = support::fixture("model").display().to_string();
    assert!(warnings(&work, &format!("inspect --model {model} --adapter {fixture}")).is_empty());
}
