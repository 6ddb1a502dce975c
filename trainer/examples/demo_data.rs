//! Writes the demo data set: made-up messages to a made-up railway, to be sorted by what the writer
//! wants in the end.
//!
//! ```text
//! cargo run -p engraft --example demo_data -- DIR
//! ```
//!
//! writes `DIR/train.tsv` and `DIR/eval.tsv`, each with a header and two columns, `text` and
//! `label`. The same files come out every time. The labels are `complaint`, `praise`, `question`
//! and `request`.
//!
//! Most messages say two things, and the label belongs to the one that counts: in "A, but B" that
//! is B, in "although A, B" it is B, and in "B, although A" it is B again. What does not count may
//! be blame, praise, a question that was settled or a request that is over. Praise can deny
//! something bad and blame can deny something good. So the words of a message say little about its
//! label; their order and the words that join them do.
//!
//! A held-out message joins its two halves in a way that no training message does, and about one in
//! four of the nouns and adjectives it draws from occurs in no training message.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

const TRAIN_ROWS: usize = 2000;
const EVAL_ROWS: usize = 500;
const LABELS: [&str; 4] = ["complaint", "praise", "question", "request"];

/// Words for one slot: those of all messages, and those of held-out messages only.
struct Words {
    shared: &'static [&'static str],
    held_out: &'static [&'static str],
}

const THING: Words = Words {
    shared: &[
        "the night train",
        "the morning train",
        "the ticket machine",
        "the dining car",
        "the waiting room",
        "the mobile app",
        "the station lift",
        "the connecting bus",
        "the quiet coach",
        "the sleeping car",
        "the information desk",
        "the new timetable",
        "the family ticket",
        "the lost property office",
    ],
    held_out: &[
        "the station cafe",
        "the evening train",
        "the website",
        "the luggage service",
        "the car park",
    ],
};

const GOOD: Words = Words {
    shared: &[
        "excellent",
        "wonderful",
        "reliable",
        "pleasant",
        "fantastic",
        "brilliant",
        "impressive",
        "perfect",
        "great",
    ],
    held_out: &["superb", "delightful", "amazing"],
};

const BAD: Words = Words {
    shared: &[
        "terrible",
        "awful",
        "useless",
        "unreliable",
        "disappointing",
        "horrible",
        "unpleasant",
        "hopeless",
        "bad",
    ],
    held_out: &["dreadful", "appalling", "frustrating"],
};

const WHEN: Words = Words {
    shared: &[
        "on Sunday",
        "this morning",
        "last week",
        "on my way to work",
        "during the holidays",
        "after the concert",
        "at the weekend",
        "in the rain",
    ],
    held_out: &["on Friday evening", "in the snow", "last month"],
};

/// Blame, as a statement that can stand alone or behind "although".
const BLAME: &[&str] = &[
    "{thing} was {bad} {when}",
    "{thing} was not {good} {when}",
    "{thing} was anything but {good}",
    "I found {thing} {bad}",
    "nobody could call {thing} {good}",
    "{thing} was {bad} again",
];

/// Praise, likewise.
const THANKS: &[&str] = &[
    "{thing} was {good} {when}",
    "{thing} was not {bad} at all {when}",
    "{thing} was never {bad}",
    "I found {thing} {good}",
    "nobody could call {thing} {bad}",
    "{thing} was {good} again",
];

/// Questions that wait for an answer.
const QUESTION: &[&str] = &[
    "is {thing} {good} {when}?",
    "will {thing} be open {when}?",
    "could you tell me how much {thing} costs?",
    "do you know whether {thing} was {bad} {when}?",
    "please tell me: when does {thing} open?",
    "where would I find {thing}?",
];

/// Requests that wait to be met.
const REQUEST: &[&str] = &[
    "please make {thing} less {bad}",
    "could you open {thing} {when}?",
    "could you keep {thing} as {good} as it was {when}?",
    "please tell the staff that {thing} must be open {when}",
    "I would like my money back for {thing}",
    "please do something about {thing}",
];

/// Questions that are settled and requests that are over: they never count.
const OVER: &[&str] = &[
    "I meant to ask whether {thing} was {bad} {when}",
    "you told me how much {thing} costs",
    "I was asked whether {thing} would be open {when}",
    "I once asked you to make {thing} less {bad}",
    "I no longer want my money back for {thing}",
    "you did keep {thing} as {good} as I asked",
];

/// Ways to join what counts, `{main}`, with what does not, `{aside}`.
const JOIN: &[&str] = &[
    "{aside}, but {main}",
    "although {aside}, {main}",
    "{main}, although {aside}",
    "{aside}. all the same, {main}",
    "even if {aside}, {main}",
    "{main}, even if {aside}",
];

/// SplitMix64, a small random number generator.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Fills every slot of a template with a word drawn for it.
fn fill(template: &str, held_out: bool, rng: &mut Rng) -> String {
    let mut text = template.to_string();
    for (slot, words) in [("{thing}", THING), ("{good}", GOOD), ("{bad}", BAD), ("{when}", WHEN)] {
        while text.contains(slot) {
            let n = words.shared.len() + if held_out { words.held_out.len() } else { 0 };
            let i = rng.below(n);
            let word =
                if i < words.shared.len() { words.shared[i] } else { words.held_out[i - words.shared.len()] };
            text = text.replacen(slot, word, 1);
        }
    }
    text
}

/// Capital letters at the beginnings of sentences, and a full stop at the end.
fn finish(text: &str) -> String {
    let mut out = String::new();
    let mut first = true;
    for c in text.chars() {
        if first && c.is_alphabetic() {
            out.extend(c.to_uppercase());
            first = false;
        } else {
            out.push(c);
            first = first || matches!(c, '.' | '?');
        }
    }
    if !out.ends_with('?') {
        out.push('.');
    }
    out
}

/// One message with its label; `None` where the draw belongs to the other file or makes no message.
fn message(held_out: bool, rng: &mut Rng) -> Option<(String, &'static str)> {
    // Blame and praise are twice as frequent as questions and requests.
    let label = [0, 0, 1, 1, 2, 3][rng.below(6)];
    let mains = [BLAME, THANKS, QUESTION, REQUEST][label];
    let main = rng.below(mains.len());
    if rng.below(5) == 0 {
        // One in five messages says one thing only.
        return Some((finish(&fill(mains[main], held_out, rng)), LABELS[label]));
    }
    // What does not count is mostly blame beside praise, praise beside blame, and either beside the
    // rest.
    let kind = match (rng.below(6), label) {
        (0, _) => 2,
        (_, 0 | 1) => 1 - label,
        (n, _) => n % 2,
    };
    let asides = [BLAME, THANKS, OVER][kind];
    let aside = rng.below(asides.len());
    let join = rng.below(JOIN.len());
    // One way in five to put a message together is kept for the held-out file.
    let way = [label, main, kind, aside, join].iter().fold(7, |h, &i| mix(h ^ (i as u64 + 1)));
    if (way % 5 == 0) != held_out {
        return None;
    }
    let (main, aside) = (fill(mains[main], held_out, rng), fill(asides[aside], held_out, rng));
    if THING.shared.iter().chain(THING.held_out).any(|t| main.contains(t) && aside.contains(t)) {
        return None;
    }
    let joined = JOIN[join];
    if main.ends_with('?') && joined.starts_with("{main}") {
        // A question mark ends the message.
        let main = main.trim_end_matches('?');
        return Some((
            finish(&(joined.replace("{main}", main).replace("{aside}", &aside) + "?")),
            LABELS[label],
        ));
    }
    Some((finish(&joined.replace("{main}", &main).replace("{aside}", &aside)), LABELS[label]))
}

fn write(
    path: &Path,
    rows: usize,
    held_out: bool,
    seen: &mut BTreeSet<String>,
    rng: &mut Rng,
) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "text\tlabel")?;
    let mut written = 0;
    while written < rows {
        if let Some((text, label)) = message(held_out, rng)
            && seen.insert(text.clone())
        {
            writeln!(file, "{text}\t{label}")?;
            written += 1;
        }
    }
    file.flush()
}

fn main() -> std::io::Result<()> {
    let Some(dir) = std::env::args_os().nth(1) else {
        eprintln!("usage: demo_data DIR");
        std::process::exit(2);
    };
    let dir = Path::new(&dir);
    std::fs::create_dir_all(dir)?;
    let (mut seen, mut rng) = (BTreeSet::new(), Rng(1));
    write(&dir.join("train.tsv"), TRAIN_ROWS, false, &mut seen, &mut rng)?;
    write(&dir.join("eval.tsv"), EVAL_ROWS, true, &mut seen, &mut rng)
}
