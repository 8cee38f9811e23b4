//! Somebody leaves a message, the operator finds it, hears it and can prove that it is whole.

use hookswitch_sim::numbered::{self, Tally};
use hookswitch_tests::audio::{ffprobe_seconds, heard_tones, read_wav, silence, sox_hz, tone, write_wav};
use hookswitch_tests::node::Node;

#[test]
fn a_message_is_left_and_found_and_verified() {
    let node = Node::demo();
    let said = node.file("said.wav");
    // A second for the beep, then a sequence that cannot be there by chance.
    write_wav(&said, &[silence(1.0), tone(440.0, 1.0), tone(880.0, 0.6), silence(0.3), tone(660.0, 1.0)].concat());
    let heard = node.file("heard.wav");
    let call = node.phone("voicemail").play(&said).dtmf("#@5s").record(&heard).run();
    call.ok().says("INVITE sip:voicemail@").says("200").says("digit #").says("<- BYE").says("RTP flows");

    let recording = node.recording();
    let id = recording["id"].as_str().expect("a recording has an id").to_owned();
    assert_eq!(recording["domain"], "demo.localhost");
    node.cli(&["recording", "verify", &id]).ok();

    let file = node.fetch(&id);
    let samples = read_wav(&file);
    let hz: Vec<f64> = heard_tones(&samples, &[440.0, 660.0, 880.0]).iter().map(|(hz, _)| *hz).collect();
    assert_eq!(hz, [440.0, 880.0, 660.0]);
    // Another opinion on length and pitch.
    let seconds = ffprobe_seconds(&file);
    assert!((seconds - samples.len() as f64 / 8000.0).abs() < 0.04, "ffprobe says {seconds} s");
    let at = samples.windows(160).position(|w| heard_tones(&w.repeat(4), &[440.0]).len() == 1).expect("440 Hz begins") as f64 / 8000.0;
    let hz = sox_hz(&file, at + 0.1, 0.8);
    assert!((hz - 440.0).abs() < 15.0, "sox says {hz} Hz");

    // The caller heard the beep of UR-017 and none of himself.
    let heard = heard_tones(&read_wav(&heard), &[1000.0, 440.0]);
    assert!(heard.iter().any(|(hz, s)| *hz == 1000.0 && (s - 0.25).abs() < 0.05), "no beep of 250 ms: {heard:?}");
    assert!(heard.iter().all(|(hz, _)| *hz != 440.0), "an echo: {heard:?}");
}

#[test]
fn a_message_is_byte_exact_from_first_to_last_frame() {
    let node = Node::demo();
    let said = node.file("numbered.wav");
    write_wav(&said, &numbered::pcm(300));
    let call = node.phone("voicemail").play(&said).dtmf("#@7s").run();
    call.ok();

    let recording = node.recording();
    let file = node.fetch(recording["id"].as_str().expect("an id"));
    let tally = Tally::of(&read_wav(&file));
    assert!(tally.whole(), "{tally:?}");
    assert_eq!(tally.last, Some(299), "all that was said until its end is there: {tally:?}");
    let first = tally.first.expect("whole");
    assert!(first < 100, "recording began within 2 s of the answer: {tally:?}");

    // The frame that says n was sent n * 20 ms after the answer, the digit at 7 s: so the length is known without asking the node. The
    // last 100 to 250 ms before the digit are cut, since its tone may be in them (UR-019).
    let until_digit = 7.0 - f64::from(first) * 0.02;
    let cut = until_digit - ffprobe_seconds(&file);
    assert!((0.1 - 0.04..=0.25 + 0.04).contains(&cut), "{cut} s were cut from the end");
    assert_eq!(recording["frames_concealed"].as_u64(), Some(0), "{recording}");
}

#[test]
fn a_caller_who_hangs_up_leaves_his_message_too() {
    let node = Node::demo();
    let said = node.file("numbered.wav");
    write_wav(&said, &numbered::pcm(200));
    node.phone("voicemail").play(&said).seconds("3").run().ok().says("-> BYE");
    let recording = node.recording();
    let id = recording["id"].as_str().expect("an id");
    node.cli(&["recording", "verify", id]).ok();
    let file = node.fetch(id);
    let tally = Tally::of(&read_wav(&file));
    assert!(tally.whole() && tally.numbered > 75, "{tally:?}");
    // From the first frame that is there to the BYE, 3 s after the answer.
    let expected = 3.0 - f64::from(tally.first.expect("whole")) * 0.02;
    let seconds = ffprobe_seconds(&file);
    assert!((seconds - expected).abs() <= 0.04, "{seconds} s instead of {expected} s");
}

#[test]
fn a_changed_recording_does_not_verify() {
    let node = Node::demo();
    let said = node.file("said.wav");
    write_wav(&said, &tone(440.0, 3.0));
    node.phone("voicemail").play(&said).seconds("2").run().ok();
    let recording = node.recording();
    let id = recording["id"].as_str().expect("an id");
    node.cli(&["recording", "verify", id]).ok();
    let stored = std::fs::read(node.fetch(id)).expect("the audio");
    let path = find(&node.data(), &stored).expect("the audio lies in the data folder");
    let mut changed = stored;
    let last = changed.len() - 10;
    changed[last] ^= 1;
    std::fs::write(path, changed).expect("the operator may write there");
    let run = node.cli(&["recording", "verify", id]);
    assert_eq!(run.status, Some(1), "{run}");
    node.cli(&["recording", "verify", "00000000-0000-4000-8000-000000000000"]).fails(&[]);
}

/// The file below `folder` with these contents.
fn find(folder: &std::path::Path, contents: &[u8]) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, contents) {
                return Some(found);
            }
        } else if std::fs::read(&path).is_ok_and(|bytes| bytes == contents) {
            return Some(path);
        }
    }
    None
}
