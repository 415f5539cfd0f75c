//! Reads case files; `tests/conformance/http1/cases/README.md` says how they are written. Pure.

use super::{Act, Answer, Case, End, Move, Trait, View};

/// All cases of a file: a case with rows (`* text`) is one for each of them, with the row where `{*}` stands.
///
/// # Errors
/// The first line that is none, with its place.
pub fn cases(file: &str, text: &str) -> Result<Vec<Case>, String> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = Line { at: format!("{file}:{}", index + 1), text: line };
        let (sigil, rest) = line.parts();
        match (sigil, blocks.last_mut()) {
            ("==", _) => blocks.push(Block { name: rest, at: line.at, rows: Vec::new(), lines: Vec::new() }),
            ("", _) | ("#", _) => {}
            (_, None) => return Err(line.wrong("no case has begun")),
            ("*", Some(block)) => block.rows.push(rest),
            (_, Some(block)) => block.lines.push(line),
        }
    }
    blocks.iter().map(Block::cases).collect::<Result<Vec<_>, _>>().map(|cases| cases.concat())
}

/// A case's lines, before its rows are put in.
struct Block<'t> {
    name: &'t str,
    at: String,
    rows: Vec<&'t str>,
    lines: Vec<Line<'t>>,
}

struct Line<'t> {
    at: String,
    text: &'t str,
}

impl<'t> Line<'t> {
    /// The sign that it begins with, and the rest.
    fn parts(&self) -> (&'t str, &'t str) {
        self.text.split_once(' ').unwrap_or((self.text, ""))
    }

    fn wrong(&self, why: &str) -> String {
        format!("{}: {why}: {}", self.at, self.text)
    }
}

impl Block<'_> {
    fn cases(&self) -> Result<Vec<Case>, String> {
        match &self.rows[..] {
            [] => Ok(vec![self.case(None)?]),
            rows => rows.iter().map(|row| self.case(Some(row))).collect(),
        }
    }

    fn case(&self, row: Option<&str>) -> Result<Case, String> {
        let name = row.map_or_else(|| self.name.to_owned(), |row| format!("{}: {row}", self.name));
        let mut case = Case { name, at: self.at.clone(), ..Case::default() };
        for line in &self.lines {
            let text = row.map_or_else(|| line.text.to_owned(), |row| line.text.replace("{*}", row));
            add(&mut case, &text).map_err(|why| line.wrong(&why))?;
        }
        if case.end.is_none() && !case.client.contains(&Act::Reset) {
            return Err(format!("{}: says neither `= kept` nor `= closed`: {}", case.at, case.name));
        }
        Ok(case)
    }
}

fn add(case: &mut Case, line: &str) -> Result<(), String> {
    let (sigil, rest) = line.split_once(' ').unwrap_or((line, ""));
    match sigil {
        ">" => send(&mut case.client, rest),
        "<" => answer(&mut case.origin, rest),
        "!" => act(rest).map(|act| case.client.push(act)).ok_or_else(|| "no step of a client".into()),
        "%" => step(rest).map(|step| case.origin.push(step)).ok_or_else(|| "no step of an origin".into()),
        "=" => seen(case, rest),
        "@" => view(case, rest),
        _ => Err("begins with no sign".into()),
    }
}

fn send(acts: &mut Vec<Act>, line: &str) -> Result<(), String> {
    let bytes = bytes(line)?;
    match acts.last_mut() {
        Some(Act::Send(before)) => before.extend(bytes),
        _ => acts.push(Act::Send(bytes)),
    }
    Ok(())
}

fn answer(moves: &mut Vec<Move>, line: &str) -> Result<(), String> {
    let bytes = bytes(line)?;
    match moves.last_mut() {
        Some(Move::Send(before)) => before.extend(bytes),
        _ => moves.push(Move::Send(bytes)),
    }
    Ok(())
}

fn act(words: &str) -> Option<Act> {
    Some(match words {
        "await interim" => Act::AwaitInterim,
        "await answer" => Act::AwaitAnswer,
        "await origin" => Act::AwaitOrigin,
        "finish" => Act::Finish,
        "reset" => Act::Reset,
        // What comes next is a piece of its own.
        "piece" => Act::Send(Vec::new()),
        _ => return None,
    })
}

fn step(word: &str) -> Option<Move> {
    Some(match word {
        "head" => Move::Head,
        "body" => Move::Body,
        "echo" => Move::Echo,
        "close" => Move::Close,
        "drop" => Move::Drop,
        "reset" => Move::Reset,
        "silent" => Move::Silent,
        _ => return None,
    })
}

fn seen(case: &mut Case, words: &str) -> Result<(), String> {
    match words {
        "kept" => case.end = Some(End::Kept),
        "closed" => case.end = Some(End::Closed),
        "kept or closed" => case.end = Some(End::Either),
        _ => {
            let mut parts = words.split(' ');
            let status = parts.next().and_then(|word| word.parse().ok());
            let Some(status) = status else {
                let answer = case.answers.last_mut().ok_or("no answer has begun")?;
                if let Some(codes) = words.strip_prefix("after ") {
                    let codes: Result<_, _> = codes.split(' ').map(str::parse).collect();
                    answer.interim = codes.map_err(|_| "status codes are numbers")?;
                } else {
                    answer.has.push(quality(words)?);
                }
                return Ok(());
            };
            let mut answer = Answer { status, ..Answer::default() };
            for word in parts {
                match word {
                    "head" => answer.head = true,
                    reason => answer.reason = Some(reason.into()),
                }
            }
            case.answers.push(answer);
        }
    }
    Ok(())
}

fn view(case: &mut Case, words: &str) -> Result<(), String> {
    let is_line = words.split_once(' ').is_some_and(|(method, target)| {
        method.bytes().all(|c| c.is_ascii_uppercase() || b"-!#*.".contains(&c) || c.is_ascii_lowercase())
            && (target.starts_with('/') || target == "*")
    });
    if is_line {
        let line = String::from_utf8_lossy(&plain(words)?).into_owned();
        case.views.push(View { line, has: Vec::new() });
    } else {
        let view = case.views.last_mut().ok_or("no request has begun")?;
        view.has.push(quality(words)?);
    }
    Ok(())
}

fn quality(words: &str) -> Result<Trait, String> {
    match words {
        "cut" => return Ok(Trait::Cut),
        "cut or not" => return Ok(Trait::CutOrNot),
        _ => {}
    }
    let (first, rest) = words.split_once(' ').unwrap_or((words, ""));
    let pair = |text: &str| {
        let (name, value) = text.split_once(':').ok_or("neither a field nor a body")?;
        let value = String::from_utf8_lossy(&plain(value.trim_start())?).into_owned();
        Ok::<_, String>((name.to_ascii_lowercase(), value))
    };
    Ok(match first {
        "no" => Trait::NoField(rest.into()),
        "body" => Trait::Body(plain(rest)?),
        "length" => Trait::Length(rest.parse().map_err(|_| "a length is a number")?),
        "trailer" => pair(rest).map(|(name, value)| Trait::Trailer(name, value))?,
        _ => pair(words).map(|(name, value)| Trait::Field(name, value))?,
    })
}

/// A line as it is sent: with its end, unless it ends in `~`.
fn bytes(line: &str) -> Result<Vec<u8>, String> {
    let (text, end) = line.strip_suffix('~').map_or((line, "\r\n"), |text| (text, ""));
    let mut bytes = plain(text)?;
    bytes.extend(end.as_bytes());
    Ok(bytes)
}

/// Text with its escapes replaced: `\r \n \t \0 \s \\ \xHH`, and `{N text}` for N times `text`.
fn plain(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '\\' => {
                let kind = rest.chars().next().ok_or("an escape without its letter")?;
                rest = &rest[kind.len_utf8()..];
                bytes.push(match kind {
                    'r' => b'\r',
                    'n' => b'\n',
                    't' => b'\t',
                    's' => b' ',
                    '0' => 0,
                    '\\' | '{' | '~' => u8::try_from(kind).expect("ASCII"),
                    'x' => {
                        let digits = rest.get(..2).ok_or("\\x wants two digits")?;
                        rest = &rest[2..];
                        u8::from_str_radix(digits, 16).map_err(|_| "\\x wants two digits")?
                    }
                    _ => return Err(format!("\\{kind} is no escape")),
                });
            }
            '{' => {
                let (inside, after) = rest.split_once('}').ok_or("a repetition without its end")?;
                rest = after;
                let (count, what) = inside.split_once(' ').ok_or("a repetition is `{N text}`")?;
                let count = count.parse().map_err(|_| "a repetition begins with a number")?;
                bytes.extend(plain(what)?.repeat(count));
            }
            other => bytes.extend(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
== a name
# why
> POST /x HTTP/1.1
> Host: a
>
> {3 ab}\\x41~
! await interim
> c~
% head
< HTTP/1.1 100 Continue
<
% body
< HTTP/1.1 200 OK
= 200
= after 100
= no x-hop
= kept
@ POST /x
@ host: a
@ body abababAc
";

    #[test]
    fn a_case_is_read_whole() {
        let case = cases("f", TEXT).expect("a case").remove(0);
        let send = |text: &str| Act::Send(text.into());
        assert_eq!((case.at.as_str(), case.name.as_str(), case.end), ("f:1", "a name", Some(End::Kept)));
        let head = send("POST /x HTTP/1.1\r\nHost: a\r\n\r\nabababA");
        assert_eq!(case.client, [head, Act::AwaitInterim, send("c")]);
        let reply = |text: &str| Move::Send(text.into());
        let (go_on, ok) = (reply("HTTP/1.1 100 Continue\r\n\r\n"), reply("HTTP/1.1 200 OK\r\n"));
        assert_eq!(case.origin, [Move::Head, go_on, Move::Body, ok]);
        assert_eq!((case.answers[0].status, &case.answers[0].interim[..]), (200, &[100][..]));
        assert_eq!(case.answers[0].has, [Trait::NoField("x-hop".into())]);
        let view = [Trait::Field("host".into(), "a".into()), Trait::Body("abababAc".into())];
        assert_eq!((case.views[0].line.as_str(), &case.views[0].has[..]), ("POST /x", &view[..]));
    }

    #[test]
    fn each_row_is_a_case() {
        let rows = cases("f", "== a\n* x\n* y\n> {*}~\n= closed\n").expect("cases");
        let told: Vec<_> = rows.iter().map(|case| (&*case.name, case.client.clone())).collect();
        let send = |text: &str| vec![Act::Send(text.into())];
        assert_eq!(told, [("a: x", send("x")), ("a: y", send("y"))]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, place) in [
            ("> x", "f:1"),
            ("== a\n? x\n= closed", "f:2"),
            ("== a\n> \\q\n= closed", "f:2"),
            ("== a\n> x\n= 200", "f:1"),
            ("== a\n= body x\n= closed", "f:2"),
        ] {
            let why = cases("f", text).expect_err("a complaint");
            assert!(why.starts_with(place), "{why}");
        }
    }
}
