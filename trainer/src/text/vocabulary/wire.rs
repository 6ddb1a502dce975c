//! The wire format of protocol buffers, as far as a SentencePiece model needs it.
//!
//! ```text
//! message = (key value)*        key = field number << 3 | kind, a varint
//! value   = varint              kind 0: seven bits a byte, the lowest first; the highest bit says that more follow
//!         | 8 or 4 bytes        kinds 1 and 5
//!         | length, bytes       kind 2: texts, messages
//! ```
//! Nothing is copied: what a reader gives are parts of the file, so that no length can ask for more
//! memory than the file has.

/// A value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Number(u64),
    Eight,
    Bytes(&'a [u8]),
    Four([u8; 4]),
}

/// Calls `field` with the number and the value of every field of a message. An error says where
/// the message is damaged, as a place in it.
pub(super) fn fields<'a>(
    message: &'a [u8],
    mut field: impl FnMut(u64, Value<'a>) -> Result<(), String>,
) -> Result<(), String> {
    let mut rest = message;
    while !rest.is_empty() {
        let at = message.len() - rest.len();
        let (number, value) = next(&mut rest).map_err(|why| format!("{why}, in the field at byte {at}"))?;
        field(number, value)?;
    }
    Ok(())
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<(u64, Value<'a>), String> {
    let key = varint(rest)?;
    let number = key >> 3;
    if number == 0 || number >= 1 << 29 {
        return Err(format!("there is no field {number}"));
    }
    let value = match key & 7 {
        0 => Value::Number(varint(rest)?),
        1 => take(rest, 8).map(|_| Value::Eight)?,
        2 => {
            let length = varint(rest)?;
            Value::Bytes(take(rest, usize::try_from(length).unwrap_or(usize::MAX))?)
        }
        5 => {
            let bytes = take(rest, 4)?;
            Value::Four(bytes.try_into().map_err(|_| "it ends too early".to_string())?)
        }
        kind => return Err(format!("there is no kind {kind} of value")),
    };
    Ok((number, value))
}

fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?.first().copied().unwrap_or_default();
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err("a number has more than 64 bits".into())
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], String> {
    let (taken, left) = rest.split_at_checked(count).ok_or_else(|| "it ends too early".to_string())?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> Result<Vec<(u64, Value<'_>)>, String> {
        let mut all = vec![];
        fields(message, |number, value| {
            all.push((number, value));
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let message =
            [0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1d, 0, 0, 0x80, 0x3f, 0x21, 1, 2, 3, 4, 5, 6, 7, 8];
        let want = [
            (1, Value::Number(300)),
            (2, Value::Bytes(b"ab")),
            (3, Value::Four(1f32.to_le_bytes())),
            (4, Value::Eight),
        ];
        assert_eq!(read(&message).unwrap(), want);
        assert_eq!(read(&[0x98, 0x02, 1]).unwrap(), [(35, Value::Number(1))]);
        assert!(read(&[]).unwrap().is_empty());
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let message = [0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1d, 0, 0, 0x80, 0x3f];
        for end in 1..message.len() {
            let whole = [3, 7].contains(&end);
            assert_eq!(read(&message[..end]).is_ok(), whole, "cut at {end}");
        }
        let refused = |message: &[u8]| read(message).unwrap_err();
        assert_eq!(refused(&[0x08, 1, 0x12, 200]), "it ends too early, in the field at byte 2");
        assert!(refused(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).contains("too early"));
        assert!(refused(&[0xff; 11]).contains("more than 64 bits"));
        assert!(refused(&[0x0b]).contains("no kind 3"));
        assert!(refused(&[0x00, 0]).contains("no field 0"));
    }
}
