//! Two texts line by line: what is gone, what is new, and a line around it.

use super::limits;

/// `None`: they are the same. Lines that are gone begin with `-`, new ones with `+`, others with a space; `…` stands for what is left out.
pub fn diff(before: &str, after: &str) -> Option<String> {
    if before == after {
        return None;
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    if old.len().max(new.len()) > limits::DIFF_LINES {
        let line = |lines: &[&str]| lines.get(same).copied().unwrap_or("(the end)").to_owned();
        return Some(format!("line {}:\n-{}\n+{}\n", same + 1, line(&old), line(&new)));
    }
    let lines = changes(&old[same..], &new[same..]);
    let near = |at: usize| {
        let from = at.saturating_sub(1);
        lines[from..(at + 2).min(lines.len())].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut text = String::new();
    let mut gap = false;
    if let Some(before) = same.checked_sub(1).and_then(|at| old.get(at)) {
        if same > 1 {
            text.push_str("…\n");
        }
        text.push_str(&format!(" {before}\n"));
    }
    for (at, (mark, line)) in lines.iter().enumerate() {
        if near(at) {
            text.push_str(&format!("{mark}{line}\n"));
        } else if !gap {
            text.push_str("…\n");
        }
        gap = !near(at);
    }
    Some(text)
}

/// By the longest common subsequence.
fn changes<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let width = new.len() + 1;
    // The length of the longest one from here to both ends.
    let mut common = vec![0u16; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_shown_with_a_line_around_it() {
        assert_eq!(diff("a\nb\n", "a\nb\n"), None);
        assert_eq!(diff("a\nb\nc\nd\ne\nf\n", "a\nb\nX\nd\ne\nf\n").as_deref(), Some("…\n b\n-c\n+X\n d\n…\n"));
        assert_eq!(diff("a\n", "a\nb\n").as_deref(), Some(" a\n+b\n"));
        assert_eq!(diff("a\nb\n", "b\n").as_deref(), Some("-a\n b\n"));
        assert_eq!(diff("", "a\n").as_deref(), Some("+a\n"));
    }

    #[test]
    fn of_long_texts_the_first_difference_is_told() {
        let long = "x\n".repeat(limits::DIFF_LINES + 1);
        assert_eq!(diff(&long, &format!("{long}y\n")).as_deref(), Some("line 4002:\n-(the end)\n+y\n"));
    }
}
