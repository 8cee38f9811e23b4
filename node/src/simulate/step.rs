//! What a person at a simulated telephone does, one line each: the same words in a scenario's `steps` and at the prompt of `--interactive`.
//!
//! ```text
//! press 12#          bob: press 5        say 4s          wait 2s         wait hook       wait end
//! hangup             bob: hangup         hold            resume          12#
//! fail trap          command interrupt   command hangup  command split   command send 12
//! ```

use super::limits;
use hookswitch_call::HookFailure;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Wait(Duration),
    /// Until the handler is asked, or the call is over.
    WaitHook,
    /// Until the call is over.
    WaitEnd,
    /// `who`: a callee's name; `None`: the caller.
    Press {
        who: Option<String>,
        digits: String,
    },
    /// Speaks, and the time passes.
    Say {
        who: Option<String>,
        time: Duration,
    },
    HangUp {
        who: Option<String>,
    },
    Hold {
        who: Option<String>,
    },
    Resume {
        who: Option<String>,
    },
    /// The handler's next hook fails so, without being run.
    Fail(HookFailure),
    Command(Order),
}

/// What REST or the console would order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Interrupt,
    /// The caller's leg.
    HangUp,
    Split,
    Send(String),
}

/// `90s`, `1.5s`, `300ms`, `2m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: 300ms, 1.5s, 2m");
    let at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = number.parse::<f64>().ok().filter(|_| plain).ok_or_else(wrong)? * factor;
    if seconds > limits::LONGEST.as_secs_f64() {
        return Err(format!("`{text}` is longer than {} s", limits::LONGEST.as_secs()));
    }
    Ok(Duration::from_millis((seconds * 1000.0).round() as u64))
}

fn digits(text: &str) -> Result<String, String> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_uppercase();
    if text.is_empty() || text.len() > limits::DIGITS {
        return Err(format!("1 to {} digits are needed", limits::DIGITS));
    }
    match text.chars().find(|c| !is_key(*c)) {
        Some(key) => Err(format!("`{key}` is no key: 0 to 9, *, #, A to D")),
        None => Ok(text),
    }
}

fn is_key(c: char) -> bool {
    matches!(c, '0'..='9' | '*' | '#' | 'A'..='D')
}

impl Step {
    pub fn parse(line: &str) -> Result<Step, String> {
        let (who, words) = match line.split_once(':') {
            Some((who, words)) => (Some(who.trim().to_owned()), words.trim()),
            None => (None, line.trim()),
        };
        let (verb, rest) = words.split_once(char::is_whitespace).map_or((words, ""), |(verb, rest)| (verb, rest.trim()));
        let nothing = |step: Step| if rest.is_empty() { Ok(step) } else { Err(format!("`{verb}` takes no `{rest}`")) };
        let own = |step: Step| match &who {
            None => Ok(step),
            Some(who) => Err(format!("`{verb}` is not {who}'s to do")),
        };
        match verb {
            "press" => Ok(Step::Press { who, digits: digits(rest)? }),
            "say" => Ok(Step::Say { who, time: duration(rest)? }),
            "hangup" => nothing(Step::HangUp { who }),
            "hold" => nothing(Step::Hold { who }),
            "resume" => nothing(Step::Resume { who }),
            "wait" => own(match rest {
                "hook" => Step::WaitHook,
                "end" => Step::WaitEnd,
                time => Step::Wait(duration(time)?),
            }),
            "fail" => own(Step::Fail(match rest {
                "trap" => HookFailure::Trap { message: "ordered by the scenario".into() },
                "deadline" => HookFailure::Deadline,
                "cpu" => HookFailure::Cpu,
                "memory" => HookFailure::Limit { name: "memory" },
                "refused" => HookFailure::Refused { message: "ordered by the scenario".into() },
                _ => return Err(format!("`fail {rest}`: trap, deadline, cpu, memory or refused")),
            })),
            "command" => own(Step::Command(match rest.split_once(char::is_whitespace).unwrap_or((rest, "")) {
                ("interrupt", "") => Order::Interrupt,
                ("hangup", "") => Order::HangUp,
                ("split", "") => Order::Split,
                ("send", sent) => Order::Send(digits(sent)?),
                _ => return Err(format!("`command {rest}`: interrupt, hangup, split or send DIGITS")),
            })),
            _ if !words.is_empty() && words.chars().all(|c| is_key(c.to_ascii_uppercase())) => {
                Ok(Step::Press { who, digits: digits(words)? })
            }
            _ => Err(format!("`{words}` is nothing to do: press, say, wait, hangup, hold, resume, fail or command")),
        }
    }

    /// The callee who does it.
    pub fn who(&self) -> Option<&str> {
        match self {
            Step::Press { who, .. } | Step::Say { who, .. } | Step::HangUp { who } | Step::Hold { who } | Step::Resume { who } => {
                who.as_deref()
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_steps() {
        let press = |digits: &str| Step::Press { who: None, digits: digits.into() };
        for (line, step) in [
            ("press 1 2 #", press("12#")),
            ("12a#", press("12A#")),
            ("bob: press 5", Step::Press { who: Some("bob".into()), digits: "5".into() }),
            ("say 1.5s", Step::Say { who: None, time: Duration::from_millis(1500) }),
            ("wait 300ms", Step::Wait(Duration::from_millis(300))),
            ("wait end", Step::WaitEnd),
            ("bob: hangup", Step::HangUp { who: Some("bob".into()) }),
            ("fail deadline", Step::Fail(HookFailure::Deadline)),
            ("command send 12", Step::Command(Order::Send("12".into()))),
        ] {
            assert_eq!(Step::parse(line), Ok(step), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for (line, why) in [
            ("", "nothing to do"),
            ("dance", "`dance` is nothing to do"),
            ("press", "1 to 64 digits"),
            ("press x", "`X` is no key"),
            ("wait", "`` is no time"),
            ("wait 5", "`5` is no time"),
            ("wait -5s", "is no time"),
            ("wait 5 s", "is no time"),
            ("wait 1e9s", "is no time"),
            ("wait 2h", "longer than 3600 s"),
            ("hangup now", "takes no `now`"),
            ("bob: wait 5s", "not bob's to do"),
            ("fail loudly", "trap, deadline, cpu, memory or refused"),
            ("command", "interrupt, hangup, split or send"),
        ] {
            let error = Step::parse(line).expect_err(line);
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
