//! Paragraphs as a PDF: wrapped, over as many pages as they need, in fonts that every reader has.

use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

/// A4, in points.
const PAGE: (f32, f32) = (595.0, 842.0);
const MARGIN: f32 = 56.0;
/// Where the number of the page stands.
const FOOT: f32 = 30.0;

const CATALOG: i32 = 1;
const TREE: i32 = 2;
const INFO: i32 = 3;
const FIRST_FONT: i32 = 4;
const FIRST_PAGE: i32 = 10;

/// The base fonts, and their names in this file.
const FONTS: [(Name<'static>, Name<'static>); 3] =
    [(Name(b"F1"), Name(b"Helvetica")), (Name(b"F2"), Name(b"Helvetica-Bold")), (Name(b"F3"), Name(b"Courier"))];

/// How a paragraph looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Title,
    Heading,
    Text,
    Code,
}

impl Style {
    /// The font, its size, and the space above a paragraph.
    fn look(self) -> (usize, f32, f32) {
        match self {
            Self::Title => (1, 20.0, 0.0),
            Self::Heading => (1, 12.0, 12.0),
            Self::Text => (0, 10.0, 3.0),
            Self::Code => (2, 8.0, 3.0),
        }
    }

    /// From one line to the next.
    fn leading(self) -> f32 {
        self.look().1 * 1.3
    }

    /// How wide a byte is, in points.
    fn width(self, byte: u8) -> f32 {
        let (font, size, _) = self.look();
        let thousandths = match font {
            2 => 600,
            // Bold letters are wider than these, by no more than a quarter.
            1 => helvetica(byte) * 5 / 4,
            _ => helvetica(byte),
        };
        f32::from(thousandths) * size / 1000.0
    }
}

/// The width of a byte in Helvetica, in thousandths of its size; the widest there is for what is
/// not ASCII. (From the font's published metrics.)
fn helvetica(byte: u8) -> u16 {
    match byte {
        b'i' | b'j' | b'l' | b'\'' => 222,
        b' ' | b'!' | b',' | b'.' | b'/' | b':' | b';' | b'I' | b'[' | b'\\' | b']' | b'f' | b't' | b'|' => 278,
        b'(' | b')' | b'-' | b'`' | b'r' | b'{' | b'}' => 334,
        b'"' | b'*' => 389,
        b'^' | b'c' | b'k' | b's' | b'v' | b'x' | b'y' | b'z' | b'J' => 500,
        b'm' | b'M' => 833,
        b'#' | b'$' | b'0'..=b'9' | b'?' | b'_' | b'a'..=b'u' | b'L' => 556,
        b'+' | b'<' | b'=' | b'>' | b'~' => 584,
        b'F' | b'T' | b'Z' => 611,
        b'&' | b'A' | b'B' | b'E' | b'K' | b'P' | b'S' | b'V' | b'X' | b'Y' => 667,
        b'C' | b'D' | b'H' | b'N' | b'R' | b'U' | b'w' => 722,
        b'G' | b'O' | b'Q' => 778,
        b'%' => 889,
        b'W' => 944,
        _ => 1015,
    }
}

/// The bytes 0x80 to 0x9F of WinAnsiEncoding; those that are not used are spaces here.
const WIN_ANSI: &str = "€ ‚ƒ„…†‡ˆ‰Š‹Œ Ž  ‘’“”•–—˜™š›œ žŸ";

/// A text in WinAnsiEncoding: a question mark for what it does not have, a space for what controls.
fn win_ansi(text: &str) -> Vec<u8> {
    let byte = |c: char| match c {
        ' '..='~' => c as u8,
        c if c.is_control() => b' ',
        '\u{a0}'..='\u{ff}' => c as u8,
        c => WIN_ANSI.chars().zip(0x80_u8..).find(|(own, _)| *own == c).map_or(b'?', |(_, byte)| byte),
    };
    text.chars().map(byte).collect()
}

/// Cuts a line into such as fit the page, between words where it can.
fn wrap(line: &[u8], style: Style) -> Vec<&[u8]> {
    let room = PAGE.0 - 2.0 * MARGIN;
    let mut lines = Vec::new();
    let mut rest = line;
    loop {
        let mut width = 0.0;
        let fits = rest.iter().position(|byte| {
            width += style.width(*byte);
            width > room
        });
        let Some(fits) = fits else { break };
        let fits = fits.max(1);
        let space = rest.iter().take(fits + 1).rposition(|byte| *byte == b' ').filter(|space| *space > 0);
        let (cut, left) = rest.split_at(space.unwrap_or(fits));
        lines.push(cut);
        rest = left.trim_ascii_start();
    }
    lines.push(rest);
    lines
}

/// A line of text, and how high it stands.
struct Line {
    style: Style,
    bottom: f32,
    text: Vec<u8>,
}

/// Lays paragraphs out on pages.
fn lay_out(paragraphs: &[(Style, String)]) -> Vec<Vec<Line>> {
    let mut pages = Vec::new();
    let mut page = Vec::new();
    let mut bottom = PAGE.1 - MARGIN;
    for (style, text) in paragraphs {
        bottom -= style.look().2;
        for line in text.lines() {
            for text in wrap(&win_ansi(line), *style) {
                bottom -= style.leading();
                if bottom < MARGIN {
                    pages.push(std::mem::take(&mut page));
                    bottom = PAGE.1 - MARGIN - style.leading();
                }
                page.push(Line { style: *style, bottom, text: text.to_vec() });
            }
        }
    }
    pages.push(page);
    pages
}

fn draw(lines: &[Line], foot: &str) -> pdf_writer::Buf {
    let mut content = Content::new();
    let mut show = |style: Style, bottom: f32, text: &[u8]| {
        let (font, size, _) = style.look();
        content.begin_text().set_font(FONTS[font].0, size).next_line(MARGIN, bottom).show(Str(text)).end_text();
    };
    for line in lines {
        show(line.style, line.bottom, &line.text);
    }
    show(Style::Code, FOOT, &win_ansi(foot));
    content.finish()
}

/// A PDF of these paragraphs.
pub(super) fn write(title: &str, paragraphs: &[(Style, String)]) -> Vec<u8> {
    let pages = lay_out(paragraphs);
    // Two objects a page; a list of risks comes nowhere near the largest number.
    let count = i32::try_from(pages.len()).unwrap_or(i32::MAX / 4).min(i32::MAX / 4);
    let page_id = |index: i32| Ref::new(FIRST_PAGE + 2 * index);
    let tree = Ref::new(TREE);
    let mut pdf = Pdf::new();
    pdf.catalog(Ref::new(CATALOG)).pages(tree);
    pdf.pages(tree).kids((0..count).map(page_id)).count(count);
    pdf.document_info(Ref::new(INFO)).title(TextStr(title));
    for (id, (_, font)) in (FIRST_FONT..).zip(FONTS) {
        pdf.type1_font(Ref::new(id)).base_font(font).encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    for (index, lines) in (0..count).zip(&pages) {
        let content_id = Ref::new(FIRST_PAGE + 2 * index + 1);
        let mut page = pdf.page(page_id(index));
        page.media_box(Rect::new(0.0, 0.0, PAGE.0, PAGE.1)).parent(tree).contents(content_id);
        let mut resources = page.resources();
        let mut fonts = resources.fonts();
        for (id, (name, _)) in (FIRST_FONT..).zip(FONTS) {
            fonts.pair(name, Ref::new(id));
        }
        fonts.finish();
        resources.finish();
        page.finish();
        pdf.stream(content_id, &draw(lines, &format!("Page {} of {count}", index + 1)));
    }
    pdf.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_encoding_does_not_have_is_replaced() {
        assert_eq!(win_ansi("A é – € 漢\t\0\u{85}"), b"A \xe9 \x96 \x80 ?   ");
        assert_eq!(win_ansi("ŸžŽ\u{a0}"), b"\x9f\x9e\x8e\xa0");
    }

    #[test]
    fn lines_fit_the_page_and_lose_nothing_but_spaces() {
        for style in [Style::Title, Style::Heading, Style::Text, Style::Code] {
            for text in ["word ".repeat(300), "W".repeat(1_000), format!("   {}", "é".repeat(500)), String::new()] {
                let bytes = win_ansi(&text);
                let lines = wrap(&bytes, style);
                let width = |line: &[u8]| line.iter().map(|byte| style.width(*byte)).sum::<f32>();
                assert!(lines.iter().all(|line| width(line) <= PAGE.0 - 2.0 * MARGIN + 0.01), "{style:?}");
                let letters = |bytes: &[u8]| bytes.iter().filter(|byte| **byte != b' ').count();
                assert_eq!(lines.iter().map(|line| letters(line)).sum::<usize>(), letters(&bytes), "{style:?}");
            }
        }
    }

    #[test]
    fn long_text_goes_on_over_pages_and_stays_on_them() {
        let paragraphs: Vec<(Style, String)> =
            (0..300).map(|n| (if n % 3 == 0 { Style::Heading } else { Style::Text }, format!("line {n}"))).collect();
        let pages = lay_out(&paragraphs);
        assert!(pages.len() > 3);
        assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), 300);
        assert!(pages.iter().flatten().all(|line| line.bottom >= MARGIN && line.bottom <= PAGE.1 - MARGIN));
        assert_eq!(lay_out(&[]).len(), 1, "a document has a page");
    }

    #[test]
    fn the_cross_references_lead_to_the_objects() {
        let bytes = write("Ünïcode", &[(Style::Text, "a (b) \\ c".repeat(2_000))]);
        let text = String::from_utf8_lossy(&bytes);
        assert!(bytes.starts_with(b"%PDF-") && text.trim_end().ends_with("%%EOF"));
        let start = text.rsplit("startxref").next().and_then(|rest| rest.split_whitespace().next()).expect("a place");
        let table = &bytes[start.parse::<usize>().expect("a number")..];
        assert!(table.starts_with(b"xref"));
        let table = String::from_utf8_lossy(table);
        let mut seen = 0;
        for (id, row) in table.lines().skip(2).take_while(|row| !row.starts_with("trailer")).enumerate() {
            if row.trim_end().ends_with('n') {
                let place: usize = row[..10].parse().expect("a place");
                assert!(bytes[place..].starts_with(format!("{id} 0 obj").as_bytes()), "object {id}");
                seen += 1;
            }
        }
        assert!(seen > 10, "{seen} objects");
    }
}
