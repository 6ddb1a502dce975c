use super::*;
use crate::{
    learner::{Backbone, Graft, Opening},
    tasks::{Classification, MaskedLm, Regression},
    text::example::Reads,
};
use engraft_engine::Device;

fn examples(texts: &[(usize, u32)]) -> Examples {
    let one = |(record, (tokens, label)): (usize, &(usize, u32))| Example {
        record,
        ..Example::new((0..*tokens as u32).map(|t| t + 1).collect(), Reads::Summary, vec![*label])
    };
    texts.iter().enumerate().map(one).collect()
}
/// A teacher that has learned nothing, with these labels.
fn teacher(labels: &[&str], seed: u64, examples: &Examples) -> Teacher {
    let model: std::path::PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "tests", "fixtures", "bert", "model"].iter().collect();
    let backbone = Backbone::open(model, &Device::cpu(1).unwrap(), Opening::default()).unwrap();
    let task: Box<dyn Task> = match labels {
        [] => Box::new(Regression),
        _ => Box::new(Classification::new(labels.iter().copied()).unwrap()),
    };
    let head = task.head(backbone.model().info(), true);
    let graft = Graft { name: "t".into(), head, seed, ..Graft::default() };
    let learner = backbone.learner(graft, task).unwrap();
    Teacher { name: format!("teacher {seed}"), learner, examples: examples.clone() }
}
const HOW: (BatchSize, usize, Mode) = (BatchSize::Examples(2), MOST, Mode::Quiet);
fn lesson(teachers: &[Teacher], labels: &[&str]) -> Result<Lesson> {
    Lesson::of(teachers, &Classification::new(labels.iter().copied())?, 2.0, &[], HOW)
}

#[test]
fn classes_go_by_their_names() {
    let examples = examples(&[(3, 0), (5, 2), (2, 1), (7, 0)]);
    let of = |labels: &[&str]| lesson(&[teacher(labels, 1, &examples)], &["a", "b", "c"]);
    let (same, turned) = (of(&["a", "b", "c"]).unwrap(), of(&["c", "a", "b"]).unwrap());
    // the heads are the same: the first output is that of `c` in one of them
    for (p, q) in same.targets.chunks(3).zip(turned.targets.chunks(3)) {
        assert_eq!([p[0], p[1], p[2]], [q[2], q[0], q[1]]);
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
    for labels in [&["a", "b"][..], &["a", "b", "d"], &["a", "b", "c", "d"]] {
        let e = of(labels).unwrap_err().to_string();
        let lists = ["teacher 1", "only the teacher has", "only the data has"];
        assert!(lists.iter().all(|words| e.contains(words)), "{e}");
    }
    let e = of(&["a", "b", "d"]).unwrap_err().to_string();
    assert!(e.contains("only the teacher has: `d`; only the data has: `c`"), "{e}");
}

#[test]
fn probabilities_of_several_are_averaged() {
    let examples = examples(&[(3, 0), (5, 1), (2, 0)]);
    let of = |seeds: &[u64]| {
        let teachers: Vec<Teacher> = seeds.iter().map(|s| teacher(&["a", "b"], *s, &examples)).collect();
        lesson(&teachers, &["a", "b"]).unwrap().targets
    };
    let (one, other, both) = (of(&[1]), of(&[2]), of(&[1, 2]));
    assert_ne!(one, other);
    for ((a, b), mean) in one.iter().zip(&other).zip(&both) {
        assert!(((a + b) / 2.0 - mean).abs() < 1e-7);
    }
    let numbers = teacher(&[], 3, &examples);
    let e = lesson(&[teacher(&["a", "b"], 1, &examples), numbers], &["a", "b"]).unwrap_err().to_string();
    assert!(e.contains("teacher 3"), "{e}");
}

#[test]
fn a_batch_is_taught_what_was_said_of_its_examples() {
    let all = [(3, 0), (5, IGNORED), (2, 1), (7, 0)];
    let examples = examples(&all);
    let lesson = lesson(&[teacher(&["a", "b"], 1, &examples)], &["a", "b"]).unwrap();
    assert_eq!((lesson.labelled(), lesson.width, lesson.targets.len()), (3, 2, 6));
    let source = Lessons::new(&examples, &lesson).unwrap();
    assert_eq!(source.bytes(), Source::bytes(&examples) + lesson.bytes());
    assert_ne!(source.hash(), Source::hash(&examples));
    let order = Order::Shuffled { seed: 3, epoch: 1 };
    for (batch, plain) in source.batches(2.into(), order).zip(examples.batches(2.into(), order)) {
        let (batch, plain) = (batch.unwrap(), plain.unwrap());
        for (item, taught) in batch.items.iter().zip(&batch.taught) {
            let place = [0, 1, 1, 2][*item] * 2;
            let want = if *item == 1 { &[0.0, 0.0] } else { &lesson.targets[place..place + 2] };
            assert_eq!(taught.targets, want);
        }
        assert_eq!(Batch { taught: vec![], ..batch }, plain);
    }
    let fewer: Examples = examples.iter().take(2).collect();
    assert!(Lessons::new(&fewer, &lesson).is_err());
}

#[test]
fn hidden_states_are_of_length_one() {
    let examples = examples(&[(3, 0), (5, 1)]);
    let (teachers, task) = ([teacher(&["a", "b"], 1, &examples)], Classification::new(["a", "b"]).unwrap());
    let lesson = Lesson::of(&teachers, &task, 1.0, &[0, 1], HOW).unwrap();
    assert_eq!((lesson.hidden_of_row(), lesson.hidden.len()), (64, 128));
    for row in lesson.hidden.chunks(32) {
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[test]
fn what_is_not_to_be_learned_is_refused() {
    let examples = examples(&[(3, 0), (5, 1)]);
    let teachers = [teacher(&["a", "b"], 1, &examples)];
    let e = Lesson::of(&teachers, &MaskedLm::default(), 1.0, &[], HOW).unwrap_err().to_string();
    assert!(e.contains("masked-lm"), "{e}");
    let task = Classification::new(["a", "b"]).unwrap();
    let e = Lesson::of(&teachers, &task, 1.0, &[], (2.into(), 15, Mode::Quiet)).unwrap_err().to_string();
    assert!(e.contains("2 labelled rows"), "{e}");
}

#[test]
fn a_teacher_reads_the_same_records() {
    let (whole, part) = (examples(&[(3, 0), (5, 1), (2, 1)]), examples(&[(4, 0), (9, 1), (2, 1)]));
    let part: Examples = part.iter().filter(|e| e.record != 1).collect();
    let own = matched("t", &whole, &part).unwrap();
    assert_eq!(own.iter().map(|e| (e.record, e.ids.len())).collect::<Vec<_>>(), [(0, 3), (2, 2)]);
    let others = examples(&[(4, 0), (9, 1), (2, 0)]);
    assert!(matched("t", &others, &part).unwrap_err().to_string().contains("example 2"));
    let fewer: Examples = whole.iter().take(1).collect();
    assert!(matched("t", &fewer, &part).unwrap_err().to_string().contains("1 examples, and the student 2"));
}

#[test]
fn layers_are_paired() {
    let of = |text: &str, student, teacher| text.parse::<Pairs>().unwrap().of(student, teacher);
    assert_eq!(of("0,1,2,5", 6, 6).unwrap(), [(0, 0), (1, 1), (2, 2), (5, 5)]);
    assert_eq!(of("0,1,2", 3, 12).unwrap(), [(0, 3), (1, 7), (2, 11)]);
    assert_eq!(of("0,5", 6, 2).unwrap(), [(0, 0), (5, 1)]);
    assert!(of("6", 6, 6).unwrap_err().to_string().contains("the student has 6 layers"));
    assert!(of("1:9", 6, 6).unwrap_err().to_string().contains("the teacher has 6 layers"));
    for bad in ["", "a", "1:b", "3,1", "2,2", "1-3"] {
        assert!(bad.parse::<Pairs>().is_err(), "{bad}");
    }
}
