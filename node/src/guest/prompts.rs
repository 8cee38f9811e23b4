//! A handler's hand on its tenant's prompt files: what it asks for is checked here and done on a thread that may wait for the disk.

use crate::limits;
use crate::prompt;
use crate::prompt_files::{PromptError, PromptFiles};
use hookswitch_wasm::{PromptInfo, PromptOp, Prompted, wit};
use std::time::Duration;

/// Does one thing with the files of a tenant, whose name is the node's knowledge.
pub(super) async fn carry_out(files: &PromptFiles, domain: &str, op: PromptOp) -> Result<Prompted, wit::HostError> {
    if let PromptOp::Write { content, .. } = &op
        && content.len() > limits::GUEST_PROMPT_WRITE
    {
        return Err(wit::HostError::BadValue(format!("content: {} bytes; at most {}", content.len(), limits::GUEST_PROMPT_WRITE)));
    }
    let (files, domain) = (files.clone(), domain.to_owned());
    let done = tokio::task::spawn_blocking(move || done(&files, &domain, op));
    match tokio::time::timeout(limits::STORE_WAIT, done).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(wit::HostError::NotAvailable("an error of the node's own".into())),
        Err(_) => Err(wit::HostError::Timeout),
    }
}

fn done(files: &PromptFiles, domain: &str, op: PromptOp) -> Result<Prompted, wit::HostError> {
    const WHO: &str = "handler";
    Ok(match op {
        PromptOp::Read { file_name, offset, length } => {
            let most = length.min(limits::GUEST_PROMPT_READ);
            Prompted::Bytes(files.read_part(domain, &file_name, offset, most).map_err(refused)?)
        }
        PromptOp::Write { file_name, content } => {
            prompt::decode(&content[..]).map_err(|why| wit::HostError::BadValue(format!("content: {why}")))?;
            files.put(domain, &file_name, &content, WHO).map_err(refused)?;
            Prompted::Nothing
        }
        PromptOp::Delete { file_name } => {
            files.remove(domain, &file_name, WHO).map_err(refused)?;
            Prompted::Nothing
        }
        PromptOp::Stat { file_name } => {
            let about = files.about(domain, &file_name).map_err(refused)?;
            // A long one would take as long to decode as a hook may.
            let short = about.size <= limits::GUEST_PROMPT_LENGTH;
            let clip = short.then(|| files.read(domain, &file_name)).transpose().map_err(refused)?;
            let length =
                clip.and_then(|bytes| prompt::decode(&bytes[..]).ok()).map(|clip| Duration::from_micros(clip.pcmu.len() as u64 * 125));
            Prompted::Info(PromptInfo {
                file_name,
                size_bytes: about.size,
                duration_ms: length.map(|length| u64::try_from(length.as_millis()).unwrap_or(u64::MAX)),
                stored_at_ms: about.changed_at,
            })
        }
    })
}

/// Paths and the disk's troubles are the operator's business.
fn refused(error: PromptError) -> wit::HostError {
    match error {
        PromptError::BadName(why) => wit::HostError::BadValue(format!("file-name: {why}")),
        PromptError::Unknown => wit::HostError::Unknown("file".into()),
        PromptError::TooMany => wit::HostError::Limit(format!("prompts: {} of a tenant", limits::PROMPTS)),
        PromptError::Quota => wit::HostError::Limit("storage_bytes: the tenant's quota is used up".into()),
        PromptError::Store(error) => super::values::failed(error),
        PromptError::Failed { .. } => {
            tracing::error!(%error, "a handler's prompt could not be read or written");
            wit::HostError::NotAvailable("the storage failed".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    /// 20 ms of silence.
    fn wav() -> Vec<u8> {
        let samples = [0u8; 320];
        let mut file = b"RIFF\x64\x01\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x40\x01\0\0".to_vec();
        file.extend_from_slice(&samples);
        file
    }

    #[tokio::test]
    async fn a_handler_writes_reads_and_removes_its_tenants_prompts_and_no_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, thread) = Store::open(&folder.path().join("db")).expect("a store");
        let files = PromptFiles::new(folder.path().join("prompts"), store);
        let name = |text: &str| text.to_owned();
        let write = |file: &str, content: Vec<u8>| PromptOp::Write { file_name: name(file), content };
        assert!(matches!(carry_out(&files, "a.example", write("hi.wav", wav())).await, Ok(Prompted::Nothing)));
        let read = |offset, length| PromptOp::Read { file_name: name("hi.wav"), offset, length };
        for (offset, length, expected) in [(0, 4, b"RIFF".to_vec()), (362, 100, vec![0, 0]), (400, 10, vec![]), (u64::MAX, 10, vec![])] {
            let Ok(Prompted::Bytes(bytes)) = carry_out(&files, "a.example", read(offset, length)).await else { panic!("{offset}") };
            assert_eq!(bytes, expected, "{offset}");
        }
        let stat = || PromptOp::Stat { file_name: name("hi.wav") };
        let Ok(Prompted::Info(info)) = carry_out(&files, "a.example", stat()).await else { panic!("it is there") };
        assert_eq!((info.size_bytes, info.duration_ms), (364, Some(20)));
        assert!(matches!(carry_out(&files, "b.example", stat()).await, Err(wit::HostError::Unknown(_))), "another tenant has none");
        for (op, field) in [
            (write("../x.wav", wav()), "file-name"),
            (write(".x.wav", wav()), "file-name"),
            (write("x.wav", b"not audio".to_vec()), "content"),
            (write("x.wav", vec![0; limits::GUEST_PROMPT_WRITE + 1]), "content"),
            (PromptOp::Read { file_name: name("a/b"), offset: 0, length: 1 }, "file-name"),
        ] {
            let refused = carry_out(&files, "a.example", op).await;
            assert!(matches!(&refused, Err(wit::HostError::BadValue(why)) if why.starts_with(field)), "{refused:?}");
        }
        assert!(matches!(carry_out(&files, "a.example", PromptOp::Delete { file_name: name("hi.wav") }).await, Ok(Prompted::Nothing)));
        assert!(matches!(carry_out(&files, "a.example", stat()).await, Err(wit::HostError::Unknown(_))));
        drop(files);
        thread.close();
    }
}
