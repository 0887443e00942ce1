//! The alphabet of byte-level BPE: every byte stands as one printable character.
//!
//! GPT-2 chose the 188 printable Latin-1 characters for themselves and moved the
//! other 68 bytes to U+0100 and up, so that vocabularies can be stored as text.
//! This module knows that mapping and nothing else.

/// The character that stands for `byte` in a byte-level vocabulary.
pub(super) const fn to_char(byte: u8) -> char {
    TO_CHAR[byte as usize]
}

/// The byte that `symbol` stands for; `None` where it is outside the alphabet.
pub(super) fn from_char(symbol: char) -> Option<u8> {
    TO_BYTE.get(symbol as usize).copied().flatten()
}

const fn printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

const TO_CHAR: [char; 256] = {
    let mut table = ['\0'; 256];
    let mut moved = 0u32;
    let mut byte = 0usize;
    while byte < 256 {
        table[byte] = if printable(byte as u8) {
            byte as u8 as char
        } else {
            let code = 256 + moved;
            moved += 1;
            match char::from_u32(code) {
                Some(symbol) => symbol,
                // 256 + 67 is far below the surrogates.
                None => '\0',
            }
        };
        byte += 1;
    }
    table
};

/// The highest character of the alphabet is U+0143 (256 + 67).
const TO_BYTE: [Option<u8>; 0x144] = {
    let mut table = [None; 0x144];
    let mut byte = 0usize;
    while byte < 256 {
        table[TO_CHAR[byte] as usize] = Some(byte as u8);
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_from_its_character() {
        for byte in 0..=255 {
            assert_eq!(from_char(to_char(byte)), Some(byte));
        }
        assert_eq!(to_char(b' '), 'Ġ');
        assert_eq!(to_char(b'\n'), 'Ċ');
        assert_eq!(from_char('中'), None);
    }
}
