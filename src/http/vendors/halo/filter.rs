//! Filter values: the small language in which a call's parameters say what is wanted. Pure.
//!
//! Documented: the signs `!`, `~`, `=`, `*` and `-` of texts; the forms of numbers. Assumed: a bare
//! text is found anywhere and in any case; so is one with `*`, but it stands for the whole text;
//! regular expressions and `=` go by case.

use regex::{Regex, RegexBuilder};

/// The longest pattern, in bytes.
const LONGEST_PATTERN: usize = 1_000;
/// How much memory a regular expression may compile to, in bytes.
const LARGEST_REGEX: usize = 1 << 18;
/// The most parts of a list of numbers.
const MOST_PARTS: usize = 200;

/// Which texts are wanted.
#[derive(Debug)]
pub(super) struct TextFilter {
    /// The match is turned round: a leading `!`.
    is_negated: bool,
    pattern: Pattern,
}

#[derive(Debug)]
enum Pattern {
    /// `-`: the empty text.
    Empty,
    /// `=text`: this text.
    Exact(String),
    /// `~expression`: texts in which it matches somewhere.
    Matching(Regex),
    /// With `*`, which stands for anything: the texts between, in lower case.
    Wild(Vec<String>),
    /// Texts with this one in them, in lower case.
    Containing(String),
}

impl TextFilter {
    /// Reads a filter; none if it is too long or its regular expression is unusable.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST_PATTERN {
            return None;
        }
        let (is_negated, rest) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let pattern = match (rest, rest.chars().next()) {
            ("-", _) => Pattern::Empty,
            (_, Some('=')) => Pattern::Exact(rest.chars().skip(1).collect()),
            (_, Some('~')) => {
                let expression: String = rest.chars().skip(1).collect();
                let mut builder = RegexBuilder::new(&expression);
                builder.size_limit(LARGEST_REGEX).dfa_size_limit(LARGEST_REGEX);
                Pattern::Matching(builder.build().ok()?)
            }
            _ if rest.contains('*') => Pattern::Wild(rest.to_lowercase().split('*').map(str::to_owned).collect()),
            _ => Pattern::Containing(rest.to_lowercase()),
        };
        Some(Self { is_negated, pattern })
    }

    /// Whether a text is wanted.
    pub(super) fn matches(&self, text: &str) -> bool {
        let is_matched = match &self.pattern {
            Pattern::Empty => text.is_empty(),
            Pattern::Exact(exact) => text == exact,
            Pattern::Matching(regex) => regex.is_match(text),
            Pattern::Wild(parts) => is_wild_match(parts, &text.to_lowercase()),
            Pattern::Containing(part) => text.to_lowercase().contains(part),
        };
        is_matched != self.is_negated
    }

    /// The one text that is wanted, if it is only one.
    pub(super) fn only(&self) -> Option<&str> {
        match &self.pattern {
            Pattern::Exact(exact) if !self.is_negated => Some(exact),
            _ => None,
        }
    }
}

/// Whether a text begins with the first part, ends with the last and has the others between, in order.
fn is_wild_match(parts: &[String], text: &str) -> bool {
    let [first, between @ .., last] = parts else { return false };
    let Some(rest) = text.strip_prefix(first.as_str()) else { return false };
    let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
    // Each part as early as possible: what is left is then as long as possible.
    for part in between {
        let Some((_, after)) = rest.split_once(part.as_str()) else { return false };
        rest = after;
    }
    true
}

/// Which numbers are wanted: ranges, both ends included.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NumberFilter(Vec<(u64, u64)>);

impl NumberFilter {
    /// Reads `5`, `1-5`, `>5`, `>=5`, `<5`, `<=5`, or several with commas between.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(',').take(MOST_PARTS + 1).collect();
        if parts.len() > MOST_PARTS {
            return None;
        }
        parts.into_iter().map(|part| range(part.trim())).collect::<Option<_>>().map(Self)
    }

    /// Whether a number is wanted.
    pub(super) fn matches(&self, number: u64) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&number))
    }

    /// The one number that is wanted, if it is only one.
    pub(super) fn only(&self) -> Option<u64> {
        match self.0.as_slice() {
            [(from, to)] if from == to => Some(*from),
            _ => None,
        }
    }
}

/// The numbers of one part. Where there are none, such as below 0, the range is from 1 to 0.
fn range(part: &str) -> Option<(u64, u64)> {
    const NONE: (u64, u64) = (1, 0);
    if let Some(from) = part.strip_prefix(">=") {
        return Some((whole(from)?, u64::MAX));
    }
    if let Some(to) = part.strip_prefix("<=") {
        return Some((0, whole(to)?));
    }
    if let Some(above) = part.strip_prefix('>') {
        return Some(whole(above)?.checked_add(1).map_or(NONE, |from| (from, u64::MAX)));
    }
    if let Some(below) = part.strip_prefix('<') {
        return Some(whole(below)?.checked_sub(1).map_or(NONE, |to| (0, to)));
    }
    match part.split_once('-') {
        Some((from, to)) => Some((whole(from)?, whole(to)?)).filter(|(from, to)| from <= to),
        None => whole(part).map(|number| (number, number)),
    }
}

/// A number of digits alone.
pub(super) fn whole(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(filter: &str, wanted: &[&str], unwanted: &[&str]) {
        let read = TextFilter::parse(filter).expect(filter);
        for text in wanted {
            assert!(read.matches(text), "{filter} wants {text:?}");
        }
        for text in unwanted {
            assert!(!read.matches(text), "{filter} does not want {text:?}");
        }
    }

    #[test]
    fn texts_are_matched_as_documented() {
        check("scan", &["scan", "First Scan Complete"], &["", "sca n"]);
        check("!scan", &["", "issue-add"], &["target-scan-start", "SCAN"]);
        check("=target-add", &["target-add"], &["Target-Add", "target-added", ""]);
        check("!=target-add", &["Target-Add", ""], &["target-add"]);
        check("target-*", &["target-add", "TARGET-"], &["a target-add", "target"]);
        check("*-add", &["issue-add"], &["issue-added"]);
        check("a*b*c", &["abc", "a-b-b-c"], &["ac", "acb", "bac"]);
        check("!target-*", &["issue-add"], &["target-add"]);
        check("*", &["", "anything"], &[]);
        check("ab*ba", &["abba", "ab-ba"], &["aba"]);
        check("~^(target|issue)-add$", &["issue-add", "target-add"], &["Issue-add", "target-addition"]);
        check("!~add", &["target-scan-start"], &["issue-add"]);
        check("-", &[""], &["-", "a"]);
        check("!-", &["-", "a"], &[""]);
        check("=-", &["-"], &[""]);
        check("=*", &["*"], &["", "a"]);
        check("=", &[""], &["="]);
        check("a-b", &["xa-by"], &["ab"]);
        check("É", &["café"], &["cafe"]);
    }

    #[test]
    fn an_unusable_pattern_is_refused() {
        for filter in ["~(", "~a{1000}{1000}", "~[z-a]", "!~*", "~(?P<n>", &"a".repeat(LONGEST_PATTERN + 1)] {
            assert!(TextFilter::parse(filter).is_none(), "{filter}");
        }
        assert!(TextFilter::parse(&"a".repeat(LONGEST_PATTERN)).is_some());
    }

    #[test]
    fn only_an_exact_pattern_wants_one_text() {
        let only = |filter: &str| TextFilter::parse(filter).and_then(|read| read.only().map(str::to_owned));
        assert_eq!(only("=a*b"), Some("a*b".to_owned()));
        assert_eq!((only("!=a"), only("a"), only("a*"), only("~^a$")), (None, None, None, None));
    }

    #[track_caller]
    fn check_numbers(filter: &str, wanted: &[u64], unwanted: &[u64]) {
        let read = NumberFilter::parse(filter).expect(filter);
        assert!(wanted.iter().all(|number| read.matches(*number)), "{filter} wants {wanted:?}");
        assert!(!unwanted.iter().any(|number| read.matches(*number)), "{filter} does not want {unwanted:?}");
    }

    #[test]
    fn numbers_are_matched_as_documented() {
        check_numbers("5", &[5], &[4, 6, 55]);
        check_numbers("1-5", &[1, 3, 5], &[0, 6]);
        check_numbers(">5", &[6, u64::MAX], &[5, 0]);
        check_numbers(">=5", &[5, u64::MAX], &[4]);
        check_numbers("<5", &[0, 4], &[5]);
        check_numbers("<=5", &[0, 5], &[6]);
        check_numbers("1,3,5", &[1, 3, 5], &[2, 4]);
        check_numbers("<=10,50-55,100,200", &[0, 10, 50, 55, 100, 200], &[11, 49, 56, 101, 199, 201]);
        check_numbers("1, 3", &[1, 3], &[2]);
        check_numbers("<0", &[], &[0, 1, u64::MAX]);
        check_numbers(&format!(">{}", u64::MAX), &[], &[0, u64::MAX]);
        assert_eq!((NumberFilter::parse("7").and_then(|one| one.only())), Some(7));
        assert_eq!((NumberFilter::parse("7-8").and_then(|two| two.only())), None);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let many = vec!["1"; MOST_PARTS + 1].join(",");
        for filter in
            ["", "a", "-", "-5", "5-", "5-1", "1-2-3", "+5", "1.5", "1,,2", ",", "=5", ">", ">=<5", "٣", &many]
        {
            assert_eq!(NumberFilter::parse(filter), None, "{filter}");
        }
        assert_eq!(NumberFilter::parse("99999999999999999999"), None, "more than there are");
    }

    /// Wild cards by trying every way, for comparison.
    fn is_match(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, _) => text.is_empty(),
            (Some(('*', rest)), _) => (0..=text.len()).any(|skipped| is_match(rest, &text[skipped..])),
            (Some((one, rest)), Some((other, after))) => one == other && is_match(rest, after),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn wild_cards_match_as_every_way_tried_would(pattern in "[ab*]{0,7}\\*[ab*]{0,5}", text in "[ab]{0,9}") {
            let read = TextFilter::parse(&pattern).expect("usable");
            let [wild, plain] = [&pattern, &text].map(|text| text.chars().collect::<Vec<_>>());
            prop_assert_eq!(read.matches(&text), is_match(&wild, &plain));
        }

        #[test]
        fn a_negation_wants_just_what_the_filter_does_not(filter in "[-=~*ab]{0,6}", text in "[-=~*abAB]{0,6}") {
            let negated = TextFilter::parse(&format!("!{filter}"));
            match TextFilter::parse(&filter) {
                Some(read) => prop_assert_ne!(read.matches(&text), negated.expect("usable too").matches(&text)),
                None => prop_assert!(negated.is_none()),
            }
        }

        #[test]
        fn an_exact_text_wants_itself_whatever_is_in_it(text in "\\PC{0,40}", other in "\\PC{0,40}") {
            let read = TextFilter::parse(&format!("={text}")).expect("usable");
            prop_assert!(read.matches(&text));
            prop_assert_eq!(read.matches(&other), text == other);
        }

        #[test]
        fn anything_can_be_read_or_refused(filter in any::<String>(), text in any::<String>(), number in any::<u64>()) {
            TextFilter::parse(&filter).map(|read| read.matches(&text));
            NumberFilter::parse(&filter).map(|read| read.matches(number));
        }

        #[test]
        fn a_list_of_numbers_wants_what_any_of_its_parts_wants(
            parts in proptest::collection::vec("(<|<=|>|>=|)[0-9]{1,2}", 1..6), number in 0_u64..110,
        ) {
            let list = NumberFilter::parse(&parts.join(",")).expect("numbers");
            let is_any = parts.iter().any(|part| NumberFilter::parse(part).expect("a number").matches(number));
            prop_assert_eq!(list.matches(number), is_any);
        }
    }
}
