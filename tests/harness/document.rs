//! Parts of documents that are written by tests, so that what they say is what was seen.

use std::path::Path;

/// The part of `docs/FILE` between `<!-- NAME -->` and `<!-- end of NAME -->` has to be `text`. With `UPDATE_DOCS` in the
/// environment it becomes so.
#[track_caller]
fn assert_documented(file: &str, name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file);
    let document = std::fs::read_to_string(&path).expect("the document");
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let from = document.find(&begin).expect("where the part begins") + begin.len();
    let to = document.find(&end).expect("where the part ends");
    let written = &document[from..to];
    if written == text {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        // the other part of the same document may be written by a test that runs beside this one
        let whole = format!("{}{text}{}", &document[..from], &document[to..]);
        std::fs::write(&path, whole).expect("write the document");
        return;
    }
    let differs = written.lines().zip(text.lines()).find(|(a, b)| a != b);
    panic!("docs/{file} does not say what was seen (UPDATE_DOCS=1 writes it): first difference {differs:#?}");
}

/// What a table says of a case: its name, what is sent, what is answered, what the server saw.
pub type Row = [String; 4];

/// Has every case judged. All have to be as they should, and be at least so many; the table of them has to be this part
/// of `docs/FILE`. `what` is what they are called.
#[track_caller]
pub fn assert_judged<C>(
    (file, part, what): (&str, &str, &str),
    at_least: usize,
    sections: Vec<(&str, Vec<C>)>,
    mut judge: impl FnMut(&C) -> Result<Row, String>,
) {
    let (mut table, mut wrong, mut count) = (String::new(), Vec::new(), 0);
    for (title, cases) in sections {
        table += &format!("\n### {title}\n\n| what | sent | answer | the server saw |\n|---|---|---|---|\n");
        count += cases.len();
        for case in &cases {
            match judge(case) {
                Ok(row) => table += &format!("| {} |\n", row.join(" | ")),
                Err(why) => wrong.push(format!("{title}: {why}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= at_least, "{count} cases");
    assert_documented(file, part, &format!("\n{count} {what}.\n{table}\n"));
}

/// Bytes as they may stand in a cell of a table: escaped, and not longer than is good to read.
pub fn cell(bytes: &[u8], longest: usize) -> String {
    let text = bytes.escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"");
    let mut text = text.replace('|', "\\|");
    if text.len() > longest {
        text = format!("{} ...", &text[..longest]);
    }
    // a code span may hold backticks when its own fence is longer
    let fence = if text.contains('`') { "``" } else { "`" };
    format!("{fence}{text}{fence}")
}
