//! Python's pickles, as far as tensors need them, without executing anything.
//!
//! A pickle is a program for a machine with a stack and a memory; its `GLOBAL` names any function
//! of Python and `REDUCE` calls it. Here the functions are those that tensors are made with, a
//! short list of names, and to "call" one is to note its arguments. Everything else is refused by
//! its name. Opcodes: Python's `pickletools`.
//!
//! Values are small and refer to others by number, so that nothing nests and nothing is copied:
//! what a pickle makes is at most [`PER_BYTE`] times as long as itself.
use super::values::{Global, Value, Values};
use std::collections::HashMap;

/// Bytes that may be held for each byte of a pickle ...
const PER_BYTE: usize = 48;
/// ... and for the whole of it. A state dictionary holds 10 to 25 for each.
const AT_LEAST: usize = 1 << 16;

/// Reads one pickle that begins at `at`: its value, and where it ends.
pub fn read<'a>(file: &'a [u8], at: usize, values: &mut Values<'a>) -> Result<(Value<'a>, usize), String> {
    let machine = Machine {
        file,
        start: at,
        at,
        held: 0,
        stack: vec![],
        marks: vec![],
        memory: HashMap::new(),
        values,
    };
    machine.run()
}

struct Machine<'a, 'v> {
    file: &'a [u8],
    start: usize,
    at: usize,
    held: usize,
    stack: Vec<Value<'a>>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memory: HashMap<u32, Value<'a>>,
    values: &'v mut Values<'a>,
}

type Done = Result<(), String>;

impl<'a> Machine<'a, '_> {
    fn run(mut self) -> Result<(Value<'a>, usize), String> {
        loop {
            let (at, code) = (self.at, self.byte()?);
            if code == b'.' {
                let value = self.pop()?;
                return Ok((value, self.at));
            }
            self.step(code).map_err(|what| format!("{what} (byte {at})"))?;
        }
    }
    fn step(&mut self, code: u8) -> Done {
        match code {
            0x80 => return self.protocol(),
            0x95 => return self.take(8).map(drop), // a frame: how the pickle is cut, and nothing else
            b'(' => {
                self.charge(size_of::<usize>())?;
                self.marks.push(self.stack.len());
                return Ok(());
            }
            b'0' => return self.pop().map(drop),
            b'1' => return self.marked().map(drop),
            b'q' => return self.store_at(1),
            b'r' => return self.store_at(4),
            0x94 => {
                let next = u32::try_from(self.memory.len()).map_err(|_| "too many values")?;
                return self.store(next);
            }
            b'a' => {
                let item = self.pop()?;
                return self.append(vec![item]);
            }
            b'e' => {
                let items = self.marked()?;
                return self.append(items);
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                return self.insert(vec![key, value]);
            }
            b'u' => {
                let items = self.marked()?;
                return self.insert(items);
            }
            b'b' => return self.build(),
            _ => {}
        }
        let value = match code {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(self.number(1)? as i64),
            b'M' => Value::Int(self.number(2)? as i64),
            b'J' => Value::Int(i64::from(self.number(4)? as u32 as i32)),
            0x8a => {
                let len = self.number(1)? as usize;
                self.long(len)?
            }
            0x8b => {
                let len = self.number(4)? as usize;
                self.long(len)?
            }
            b'G' => self.take(8).map(|_| Value::Other)?, // a number with a fraction: no tensor needs one
            b'X' => self.text(4)?,
            0x8c | b'U' => self.text(1)?,
            0x8d => self.text(8)?,
            b'T' => self.text(4)?,
            b'C' => self.skipped(1)?,
            b'B' => self.skipped(4)?,
            0x8e => self.skipped(8)?,
            b')' => self.sequence(vec![])?,
            b']' => self.sequence(vec![])?,
            b't' => {
                let items = self.marked()?;
                self.sequence(items)?
            }
            0x85..=0x87 => {
                let from = self.stack.len().saturating_sub(usize::from(code - 0x84));
                if from < self.floor() {
                    return Err("there is nothing on the stack".into());
                }
                let items = self.stack.split_off(from);
                self.sequence(items)?
            }
            b'}' => self.dictionary(vec![])?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Value::Global(Global::named(module, name)?)
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => Value::Global(Global::named(module, name)?),
                _ => return Err("a name is not a text".into()),
            },
            b'Q' => {
                let id = self.pop()?;
                self.values.storage(id)?
            }
            b'R' => {
                let arguments = self.pop()?;
                let Value::Global(function) = self.pop()? else {
                    return Err("what is called is no function".into());
                };
                self.call(function, arguments)?
            }
            _ => return Err(format!("opcode 0x{code:02x} is none that a file of tensors needs")),
        };
        self.push(value)
    }
    fn protocol(&mut self) -> Done {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(format!("pickles of protocol {other} are not supported")),
        }
    }

    /// Counts what a value holds.
    fn charge(&mut self, bytes: usize) -> Done {
        self.held = self.held.saturating_add(bytes);
        match self.held > (self.at - self.start).saturating_mul(PER_BYTE).saturating_add(AT_LEAST) {
            true => Err("it makes far more of itself than a dictionary of tensors does".into()),
            false => Ok(()),
        }
    }
    fn push(&mut self, value: Value<'a>) -> Done {
        if self.stack.len() == self.stack.capacity() {
            self.charge(self.stack.len() * size_of::<Value<'_>>())?;
        }
        self.stack.push(value);
        Ok(())
    }
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }
    fn pop(&mut self) -> Result<Value<'a>, String> {
        match self.stack.len() > self.floor() {
            true => self.stack.pop().ok_or_else(|| "there is nothing on the stack".into()),
            false => Err("there is nothing on the stack".into()),
        }
    }
    /// What was pushed since the last mark.
    fn marked(&mut self) -> Result<Vec<Value<'a>>, String> {
        let from = self.marks.pop().ok_or("there is no mark on the stack")?;
        Ok(self.stack.split_off(from))
    }
    fn top(&self) -> Result<Value<'a>, String> {
        match self.stack.len() > self.floor() {
            true => self.stack.last().copied().ok_or_else(|| "there is nothing on the stack".into()),
            false => Err("there is nothing on the stack".into()),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.file.len());
        let end = end.ok_or("the pickle ends too early")?;
        let bytes = &self.file[self.at..end];
        self.at = end;
        Ok(bytes)
    }
    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }
    fn number(&mut self, len: usize) -> Result<u64, String> {
        Ok(self.take(len)?.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }
    fn long(&mut self, len: usize) -> Result<Value<'a>, String> {
        let bytes = self.take(len)?;
        let sign = bytes.last().is_some_and(|b| b & 0x80 != 0);
        Ok(match len {
            0..=8 => Value::Int(bytes.iter().rev().fold(-i64::from(sign), |n, b| n << 8 | i64::from(*b))),
            _ => Value::Long(bytes),
        })
    }
    fn text(&mut self, width: usize) -> Result<Value<'a>, String> {
        let len = usize::try_from(self.number(width)?).map_err(|_| "a text is too long")?;
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| "a text is not UTF-8")?;
        Ok(Value::Text(text))
    }
    fn skipped(&mut self, width: usize) -> Result<Value<'a>, String> {
        let len = usize::try_from(self.number(width)?).map_err(|_| "bytes are too long")?;
        self.take(len).map(|_| Value::Other)
    }
    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.file[self.at..];
        let len = rest.iter().position(|b| *b == b'\n').ok_or("the pickle ends too early")?;
        let line = std::str::from_utf8(self.take(len)?).map_err(|_| "a name is not UTF-8")?;
        self.at += 1;
        Ok(line)
    }

    fn sequence(&mut self, items: Vec<Value<'a>>) -> Result<Value<'a>, String> {
        self.charge(size_of_val(&*items) + size_of::<Vec<Value<'_>>>())?;
        Ok(self.values.add_sequence(items))
    }
    fn dictionary(&mut self, items: Vec<Value<'a>>) -> Result<Value<'a>, String> {
        self.charge(size_of_val(&*items) + size_of::<Vec<Value<'_>>>())?;
        Ok(self.values.add_dictionary(items))
    }
    fn append(&mut self, items: Vec<Value<'a>>) -> Done {
        self.charge(2 * size_of_val(&*items))?;
        let list = self.top()?;
        self.values.list_mut(list)?.extend(items);
        Ok(())
    }
    /// Keys and values in turn.
    fn insert(&mut self, items: Vec<Value<'a>>) -> Done {
        if !items.len().is_multiple_of(2) {
            return Err("a key has no value".into());
        }
        self.charge(2 * size_of_val(&*items))?;
        let dictionary = self.top()?;
        self.values.dictionary_mut(dictionary)?.extend(items);
        Ok(())
    }
    /// Attributes of an object. A dictionary may have some (`_metadata`, the versions of modules),
    /// which say nothing of its values.
    fn build(&mut self) -> Done {
        self.pop()?;
        let object = self.top()?;
        self.values.dictionary_mut(object).map(drop)
    }
    fn store_at(&mut self, width: usize) -> Done {
        let number = self.number(width)? as u32;
        self.store(number)
    }
    fn store(&mut self, number: u32) -> Done {
        let value = self.top()?;
        if self.memory.insert(number, value).is_none() {
            self.charge(2 * size_of::<(u32, Value<'_>)>())?;
        }
        Ok(())
    }
    fn recall(&mut self, width: usize) -> Result<Value<'a>, String> {
        let number = self.number(width)? as u32;
        self.memory.get(&number).copied().ok_or_else(|| format!("value {number} was never stored"))
    }
    fn call(&mut self, function: Global, arguments: Value<'a>) -> Result<Value<'a>, String> {
        if function != Global::OrderedDict {
            let (value, bytes) = self.values.tensor(function, arguments)?;
            return self.charge(bytes).map(|()| value);
        }
        // nothing, or in pickles of Python 2 a list of lists of two
        let mut items = vec![];
        if let Some(list) = self.values.list(arguments)?.first().copied() {
            self.charge(2 * size_of_val(self.values.list(list)?))?;
            for pair in self.values.list(list)? {
                let [key, value] = *self.values.list(*pair)? else { return Err("a key has no value".into()) };
                items.extend([key, value]);
            }
        }
        self.dictionary(items)
    }
}
