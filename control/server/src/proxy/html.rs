//! Links of a page that was fetched through the proxy: those that begin at the root must begin at the proxy.
//!
//! Pure. Not a parser of HTML: it looks for tags and for the attributes in them that hold an address, and leaves everything else
//! as it is, byte for byte.

/// The attributes that hold addresses.
const ADDRESSES: [&str; 10] = [
    "action",
    "background",
    "cite",
    "data",
    "formaction",
    "href",
    "longdesc",
    "manifest",
    "poster",
    "src",
];

/// The page with `prefix` before each address that begins at the root.
pub(super) fn rebase(page: &[u8], prefix: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + 256);
    let mut rest = page;
    while let Some(start) = rest.iter().position(|byte| *byte == b'<') {
        let (before, tag) = rest.split_at(start);
        out.extend_from_slice(before);
        let end = end_of_tag(tag);
        let (tag, after) = tag.split_at(end);
        attributes(tag, prefix, &mut out);
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

/// Where a tag ends: behind the first `>` outside of quotes.
fn end_of_tag(tag: &[u8]) -> usize {
    let mut quote = None;
    for (index, byte) in tag.iter().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if open == *byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(*byte),
            (None, b'>') => return index + 1,
            (None, _) => {}
        }
    }
    tag.len()
}

fn attributes(tag: &[u8], prefix: &str, out: &mut Vec<u8>) {
    let mut rest = tag;
    while let Some(equals) = rest.iter().position(|byte| *byte == b'=') {
        let (before, after) = rest.split_at(equals + 1);
        out.extend_from_slice(before);
        let blanks = after.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let (blank, value) = after.split_at(blanks);
        out.extend_from_slice(blank);
        let quote = value.first().copied().filter(|byte| matches!(byte, b'"' | b'\''));
        let start = usize::from(quote.is_some());
        let (mark, text) = value.split_at(start);
        out.extend_from_slice(mark);
        let length = match quote {
            Some(quote) => text.iter().position(|byte| *byte == quote),
            None => text.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'>'),
        };
        let (text, after) = text.split_at(length.unwrap_or(text.len()));
        if is_address(before)
            && text.starts_with(b"/")
            && !text.starts_with(b"//")
            && !text.starts_with(prefix.as_bytes())
        {
            out.extend_from_slice(prefix.as_bytes());
        }
        out.extend_from_slice(text);
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// Whether the word before the equals sign is the name of an attribute that holds an address.
fn is_address(before: &[u8]) -> bool {
    let name = before.strip_suffix(b"=").unwrap_or(before).trim_ascii_end();
    let start = name
        .iter()
        .rposition(|byte| !byte.is_ascii_alphabetic())
        .map_or(0, |index| index + 1);
    let boundary = start.checked_sub(1).and_then(|index| name.get(index));
    let name = name.get(start..).unwrap_or_default();
    boundary.is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'/'))
        && ADDRESSES
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changed(page: &str) -> String {
        String::from_utf8(rebase(page.as_bytes(), "/p")).unwrap()
    }

    #[test]
    fn links_from_the_root_are_changed() {
        assert_eq!(changed("<a href=\"/x\">/y</a>"), "<a href=\"/p/x\">/y</a>");
        assert_eq!(
            changed("<img alt='a > b' SRC = '/i.png'>"),
            "<img alt='a > b' SRC = '/p/i.png'>"
        );
        assert_eq!(
            changed("<form method=post action=/go>"),
            "<form method=post action=/p/go>"
        );
    }

    #[test]
    fn the_rest_stays() {
        for page in [
            "<a href=\"x\">",
            "<a href=\"//h/x\">",
            "<a data-href=\"/x\">",
            "<p title=\"/x\">",
            "a < b = /x",
            "<a href=\"https://h/x\">",
            "<a href=\"/p/x\">",
            "<a href=\"/unfinished",
        ] {
            let expected = if page.ends_with("unfinished") {
                "<a href=\"/p/unfinished"
            } else {
                page
            };
            assert_eq!(changed(page), expected);
        }
    }

    proptest! {
        #[test]
        fn without_addresses_nothing_changes(page in "[a-z<>=\"' ]{0,80}") {
            prop_assert_eq!(changed(&page), page);
        }

        #[test]
        fn no_bytes_make_it_panic(page in prop::collection::vec(any::<u8>(), 0..200)) {
            rebase(&page, "/p");
        }
    }
}
