//! How a message of protobuf is read by the numbers of its fields, without the product's own types for it.

/// A message's fields, in the order in which they came.
pub struct Message<'a>(Vec<(u64, Field<'a>)>);

#[derive(Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Message<'a> {
    /// Reads a message; fails the test where it is none.
    pub fn read(mut bytes: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let field = match key & 7 {
                0 => Field::Number(varint(&mut bytes)),
                1 => Field::Number(u64::from_le_bytes(taken(&mut bytes, 8).try_into().unwrap())),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).unwrap();
                    Field::Bytes(taken(&mut bytes, length))
                }
                5 => Field::Number(u32::from_le_bytes(taken(&mut bytes, 4).try_into().unwrap()).into()),
                other => panic!("no wire type: {other}"),
            };
            fields.push((key >> 3, field));
        }
        Self(fields)
    }

    /// The messages in a field.
    pub fn messages(&self, number: u64) -> impl Iterator<Item = Message<'a>> {
        self.all(number).map(move |field| match field {
            Field::Bytes(bytes) => Message::read(bytes),
            Field::Number(_) => panic!("field {number} is no message"),
        })
    }

    /// What is in a field; nothing where it is not there.
    pub fn bytes(&self, number: u64) -> &'a [u8] {
        match self.all(number).last() {
            None => b"",
            Some(Field::Bytes(bytes)) => bytes,
            Some(Field::Number(_)) => panic!("field {number} has no bytes"),
        }
    }

    pub fn text(&self, number: u64) -> String {
        String::from_utf8(self.bytes(number).to_vec()).unwrap()
    }

    /// The number in a field of any width; 0 where it is not there.
    pub fn number(&self, number: u64) -> u64 {
        match self.all(number).last() {
            None => 0,
            Some(Field::Number(value)) => value,
            Some(Field::Bytes(_)) => panic!("field {number} is no number"),
        }
    }

    /// The numbers of the fields that are there.
    pub fn fields(&self) -> Vec<u64> {
        self.0.iter().map(|(number, _)| *number).collect()
    }

    fn all(&self, number: u64) -> impl Iterator<Item = Field<'a>> {
        let found = self.0.iter().filter(move |(other, _)| *other == number);
        found.map(|(_, field)| *field).collect::<Vec<_>>().into_iter()
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = taken(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("no number");
}

fn taken<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}
