//! Porter's stemmer (Porter 1980) with NLTK's extensions, as `nltk.stem.PorterStemmer` is by
//! default and as ROUGE uses it.
//!
//! ```
//! use engraft::reports::scores::porter::stem;
//! assert_eq!(["hopping", "hoping", "skies"].map(stem), ["hop", "hope", "sky"]);
//! ```

/// Words that the rules would get wrong.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// The stem of a word, in lower case. Words of one or two letters are their own.
pub fn stem(word: &str) -> String {
    let lower = word.to_lowercase();
    if let Some((_, stem)) = IRREGULAR.iter().find(|(word, _)| *word == lower) {
        return stem.to_string();
    }
    if word.chars().count() <= 2 {
        return lower;
    }
    [step1a, step1b, step1c, step2, step3, step4, step5a, step5b].iter().fold(lower, |word, step| step(word))
}

/// A suffix, and what takes its place.
type Rule = (&'static str, &'static str);

/// Of each letter, whether it is a consonant: no vowel, and `y` only at the beginning or behind a
/// vowel.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word.chars() {
        flags.push(match letter {
            'a' | 'e' | 'i' | 'o' | 'u' => false,
            'y' => flags.last().is_none_or(|before| !before),
            _ => true,
        });
    }
    flags
}
/// m: how often a consonant follows a vowel.
fn measure(stem: &str) -> usize {
    consonants(stem).windows(2).filter(|pair| !pair[0] && pair[1]).count()
}
fn has_vowel(stem: &str) -> bool {
    consonants(stem).contains(&false)
}
/// *o: ends with consonant, vowel, consonant, the last not w, x or y; NLTK adds the word of a vowel
/// and a consonant.
fn ends_short(word: &str) -> bool {
    match consonants(word)[..] {
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        [false, true] => true,
        _ => false,
    }
}
/// *d: the last letter, if the word ends with it twice and it is a consonant.
fn doubled(word: &str) -> Option<char> {
    let mut letters = word.chars().rev();
    let last = letters.next()?;
    (letters.next() == Some(last) && consonants(word).last() == Some(&true)).then_some(last)
}
/// The first rule whose suffix the word has decides, whether its condition on the stem holds or
/// not.
fn first_of(word: String, rules: &[Rule], holds: impl Fn(&str, &str) -> bool) -> String {
    for (suffix, instead) in rules {
        if let Some(stem) = word.strip_suffix(suffix) {
            return if holds(stem, suffix) { format!("{stem}{instead}") } else { word };
        }
    }
    word
}

fn step1a(word: String) -> String {
    if word.chars().count() == 4 && word.ends_with("ies") {
        return first_of(word, &[("ies", "ie")], |_, _| true);
    }
    first_of(word, &[("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")], |_, _| true)
}

fn step1b(word: String) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return format!("{stem}{}", if word.chars().count() == 4 { "ie" } else { "i" });
    }
    if word.ends_with("eed") {
        return first_of(word, &[("eed", "ee")], |stem, _| measure(stem) > 0);
    }
    let stem = ["ed", "ing"].iter().find_map(|s| word.strip_suffix(s).filter(|stem| has_vowel(stem)));
    let Some(stem) = stem else { return word };
    if ["at", "bl", "iz"].iter().any(|end| stem.ends_with(end)) {
        return format!("{stem}e");
    }
    match doubled(stem) {
        Some('l' | 's' | 'z') => stem.into(),
        Some(last) => stem[..stem.len() - last.len_utf8()].into(),
        None if measure(stem) == 1 && ends_short(stem) => format!("{stem}e"),
        None => stem.into(),
    }
}

fn step1c(word: String) -> String {
    let holds = |stem: &str| stem.chars().count() > 1 && consonants(stem).last() == Some(&true);
    first_of(word, &[("y", "i")], |stem, _| holds(stem))
}

fn step2(word: String) -> String {
    const RULES: [Rule; 22] = [
        ("ational", "ate"),
        ("tional", "tion"),
        ("enci", "ence"),
        ("anci", "ance"),
        ("izer", "ize"),
        ("bli", "ble"),
        ("alli", "al"),
        ("entli", "ent"),
        ("eli", "e"),
        ("ousli", "ous"),
        ("ization", "ize"),
        ("ation", "ate"),
        ("ator", "ate"),
        ("alism", "al"),
        ("iveness", "ive"),
        ("fulness", "ful"),
        ("ousness", "ous"),
        ("aliti", "al"),
        ("iviti", "ive"),
        ("biliti", "ble"),
        ("fulli", "ful"),
        ("logi", "log"),
    ];
    // -ally goes first, and what is left may have another suffix of the list
    if let Some(stem) = word.strip_suffix("alli").filter(|stem| measure(stem) > 0) {
        return step2(format!("{stem}al"));
    }
    first_of(word, &RULES, |stem, suffix| match suffix {
        "logi" => measure(&format!("{stem}l")) > 0, // so that `geo-` and `theo-` count
        _ => measure(stem) > 0,
    })
}

fn step3(word: String) -> String {
    const RULES: [Rule; 7] = [
        ("icate", "ic"),
        ("ative", ""),
        ("alize", "al"),
        ("iciti", "ic"),
        ("ical", "ic"),
        ("ful", ""),
        ("ness", ""),
    ];
    first_of(word, &RULES, |stem, _| measure(stem) > 0)
}

fn step4(word: String) -> String {
    const SUFFIXES: [&str; 19] = [
        "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism",
        "ate", "iti", "ous", "ive", "ize",
    ];
    first_of(word, &SUFFIXES.map(|suffix| (suffix, "")), |stem, suffix| {
        measure(stem) > 1 && (suffix != "ion" || stem.ends_with(['s', 't']))
    })
}

fn step5a(word: String) -> String {
    first_of(word, &[("e", "")], |stem, _| match measure(stem) {
        0 => false,
        1 => !ends_short(stem),
        _ => true,
    })
}

fn step5b(word: String) -> String {
    first_of(word, &[("ll", "l")], |stem, _| measure(&format!("{stem}l")) > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let pairs = "skies>sky dies>die tied>tie spied>spi enjoy>enjoy fly>fli hoping>hope hopping>hop owed>owe \
                     analogies>analog logically>logic hopefully>hope sensibilities>sensibl caresses>caress \
                     relational>relat feed>feed agreed>agre falling>fall controlled>control News>news ABS>ab is>is";
        for pair in pairs.split_whitespace() {
            let (word, expected) = pair.split_once('>').unwrap();
            assert_eq!(stem(word), expected, "{word}");
        }
    }
    #[test]
    fn any_text_has_a_stem() {
        for word in
            ["", "é", "yyyyyyy", "ied", "eed", "ing", "ééé", "ße", "élevéés", "123ing", "ation", "logi"]
        {
            stem(word);
        }
    }
}
