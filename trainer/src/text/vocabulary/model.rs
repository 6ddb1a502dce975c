//! A SentencePiece model file: the pieces of a vocabulary with their scores, and the table of its
//! normaliser.
//!
//! The messages are those of `sentencepiece_model.proto` (SentencePiece 0.2); fields that make no
//! difference to a fast tokenizer are passed over. What `SentencePieceProcessor::Load` refuses is
//! refused here.

use std::collections::HashSet;

use super::wire::{Value, fields};

/// What a piece is (`SentencePiece.Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// A piece of the vocabulary; its id is its place.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub text: &'a str,
    pub score: f32,
    pub kind: Kind,
}

/// How texts are cut into pieces (`TrainerSpec.ModelType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Unigram,
    Bpe,
}

/// The content of a model file.
#[derive(Debug)]
pub(super) struct SentencePiece<'a> {
    pub pieces: Vec<Piece<'a>>,
    pub algorithm: Algorithm,
    /// The id of the piece for what is unknown, and the text that stands for it.
    pub unknown: usize,
    pub unknown_text: &'a str,
    /// `precompiled_charsmap`; empty if texts are not normalised.
    pub charsmap: &'a [u8],
}

impl<'a> SentencePiece<'a> {
    /// Reads a model file. It holds no more than a few times the file's size.
    pub fn read(file: &'a [u8]) -> Result<Self, String> {
        let mut model = Self {
            pieces: vec![],
            algorithm: Algorithm::Unigram,
            unknown: 0,
            unknown_text: "<unk>",
            charsmap: &[],
        };
        let mut bytes = false;
        fields(file, |number, value| match (number, value) {
            (1, Value::Bytes(message)) => {
                let id = model.pieces.len();
                let piece = piece(message).map_err(|why| format!("its piece {id} is damaged: {why}"))?;
                model.pieces.push(piece);
                Ok(())
            }
            (2, Value::Bytes(message)) => trainer(message, &mut model, &mut bytes)
                .map_err(|why| format!("its trainer_spec is damaged: {why}")),
            (3, Value::Bytes(message)) => fields(message, |number, value| {
                if let (2, Value::Bytes(table)) = (number, value) {
                    model.charsmap = table;
                }
                Ok(())
            })
            .map_err(|why| format!("its normalizer_spec is damaged: {why}")),
            _ => Ok(()),
        })?;
        check(&model, bytes)?;
        Ok(model)
    }

    /// The ids of pieces that are looked for in texts before they are cut into pieces.
    pub fn added(&self) -> impl Iterator<Item = (&'a str, bool)> {
        let added = self.pieces.iter().filter(|p| matches!(p.kind, Kind::Control | Kind::UserDefined));
        added.map(|piece| (piece.text, piece.kind == Kind::Control))
    }
}

fn piece(message: &[u8]) -> Result<Piece<'_>, String> {
    let mut piece = Piece { text: "", score: 0.0, kind: Kind::Normal };
    fields(message, |number, value| {
        match (number, value) {
            (1, Value::Bytes(bytes)) => piece.text = text(bytes)?,
            (2, Value::Four(bytes)) => piece.score = f32::from_le_bytes(bytes),
            (3, Value::Number(kind)) => match kind {
                1 => piece.kind = Kind::Normal,
                2 => piece.kind = Kind::Unknown,
                3 => piece.kind = Kind::Control,
                4 => piece.kind = Kind::UserDefined,
                5 => piece.kind = Kind::Unused,
                6 => piece.kind = Kind::Byte,
                // protocol buffers take values that they do not know for fields that they do not know
                _ => {}
            },
            _ => {}
        }
        Ok(())
    })?;
    Ok(piece)
}

fn trainer<'a>(message: &'a [u8], model: &mut SentencePiece<'a>, bytes: &mut bool) -> Result<(), String> {
    fields(message, |number, value| {
        match (number, value) {
            (3, Value::Number(kind)) => match kind {
                1 => model.algorithm = Algorithm::Unigram,
                2 => model.algorithm = Algorithm::Bpe,
                3 => return Err("its model_type is WORD; UNIGRAM and BPE are supported".into()),
                4 => return Err("its model_type is CHAR; UNIGRAM and BPE are supported".into()),
                _ => {}
            },
            (35, Value::Number(flag)) => *bytes = flag != 0,
            (40, Value::Number(id)) => {
                model.unknown =
                    usize::try_from(id).ok().filter(|id| *id < 1 << 31).ok_or("its unk_id is negative")?;
            }
            (45, Value::Bytes(piece)) => model.unknown_text = text(piece)?,
            _ => {}
        }
        Ok(())
    })
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8".into())
}

/// As `ModelInterface::InitializePieces` checks it.
fn check(model: &SentencePiece<'_>, bytes: bool) -> Result<(), String> {
    let mut known = HashSet::with_capacity(model.pieces.len());
    let mut byte_pieces = HashSet::new();
    let mut unknown = 0;
    for (id, piece) in model.pieces.iter().enumerate() {
        let wrong = |why: String| Err(format!("its piece {id} (`{}`) {why}", piece.text));
        if piece.text.is_empty() {
            return wrong("is empty".into());
        }
        if !known.insert(piece.text) {
            return wrong("is there twice".into());
        }
        if !piece.score.is_finite() {
            return wrong(format!("has the score {}", piece.score));
        }
        unknown += usize::from(piece.kind == Kind::Unknown);
        if piece.kind == Kind::Byte {
            match piece.text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>')).filter(|t| t.len() == 2) {
                Some(digits) if bytes => drop(byte_pieces.insert(digits)),
                Some(_) => return wrong("stands for a byte, but its byte_fallback is false".into()),
                None => return wrong("does not name the byte that it stands for".into()),
            }
        }
    }
    match unknown {
        1 => {}
        0 => return Err("it has no piece for what is unknown".into()),
        n => return Err(format!("it has {n} pieces for what is unknown")),
    }
    if bytes && byte_pieces.len() != 256 {
        return Err(format!("it has pieces for {} bytes, not for 256", byte_pieces.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }
    fn piece(text: &str, kind: u8) -> Vec<u8> {
        message(1, &[&message(1, text.as_bytes())[..], &[0x15, 0, 0, 0x80, 0xbf, 0x18, kind]].concat())
    }
    fn refused(file: &[u8]) -> String {
        SentencePiece::read(file).unwrap_err()
    }

    #[test]
    fn a_model_is_read() {
        let trainer = message(2, &[&[0x18, 2, 0xc0, 0x02, 1][..], &[0xea, 0x02, 1, b'?']].concat());
        let file = [piece("a", 1), piece("?", 2), trainer, message(3, &message(2, b"xyz")), piece("<s>", 3)]
            .concat();
        let model = SentencePiece::read(&file).unwrap();
        assert_eq!((model.algorithm, model.unknown, model.unknown_text), (Algorithm::Bpe, 1, "?"));
        assert_eq!((model.pieces[0].text, model.pieces[0].score, model.charsmap), ("a", -1.0, &b"xyz"[..]));
        assert_eq!(model.added().collect::<Vec<_>>(), [("<s>", true)]);
    }

    #[test]
    fn what_sentencepiece_refuses_is_refused() {
        assert_eq!(refused(&[]), "it has no piece for what is unknown");
        assert_eq!(refused(&[piece("a", 2), piece("b", 2)].concat()), "it has 2 pieces for what is unknown");
        assert_eq!(refused(&[piece("a", 2), piece("a", 1)].concat()), "its piece 1 (`a`) is there twice");
        assert_eq!(refused(&piece("", 2)), "its piece 0 (``) is empty");
        assert!(refused(&[piece("?", 2), piece("<0x0A>", 6)].concat()).contains("byte_fallback is false"));
        let fallback = message(2, &[0x98, 2, 1]);
        assert!(refused(&[piece("?", 2), piece("<0x0A>", 6), fallback].concat()).contains("for 1 bytes"));
        assert!(refused(&[piece("?", 2), message(2, &[0x18, 4])].concat()).contains("model_type is CHAR"));
        assert!(
            refused(&message(1, &message(1, &[0xff]))).contains("piece 0 is damaged: a text is not UTF-8")
        );
        let infinite = message(1, &[&message(1, b"?")[..], &[0x15, 0, 0, 0x80, 0x7f, 0x18, 2]].concat());
        assert_eq!(refused(&infinite), "its piece 0 (`?`) has the score inf");
    }
}
