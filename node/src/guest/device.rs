//! Devices of the cloud user agent, as a handler names them: its endpoint in the core's words, and where the peer is in its own.

use super::from_wit::{Checked, Nonsense, bad};
use hookswitch_proto::sdp::{Crypto, Device, Format, Target};
use hookswitch_wasm::wit;
use std::net::{IpAddr, SocketAddr};

/// Whether its address is the tenant's to name is the session's to say.
pub(super) fn endpoint(field: &str, endpoint: wit::RtpEndpoint) -> Checked<Device> {
    let at = |name: &str| format!("{field}.{name}");
    let Ok(ip) = endpoint.receive_ip.parse::<IpAddr>() else { return bad(&at("receive-ip"), "not an IP address") };
    let Some(format) = Format::of_name(&endpoint.codec) else { return bad(&at("codec"), "not PCMU, PCMA or GSM") };
    let line = |line: &wit::SdesCrypto| {
        Crypto::new(line.id, &line.suite, &line.config).map_err(|why| Nonsense { field: at("crypto"), why: why.into() })
    };
    Ok(Device {
        address: SocketAddr::new(ip, endpoint.receive_port),
        format,
        telephone_event: endpoint.telephone_event_payload_type,
        crypto: endpoint.crypto.iter().map(line).collect::<Checked<_>>()?,
    })
}

/// The peer's keys, for whoever serves the device: without them RTP/SAVP cannot be read.
pub(super) fn crypto(target: &Target) -> Option<(String, String)> {
    let line = |line: &Crypto| serde_json::json!({ "suite": line.suite(), "id": line.tag(), "config": line.key() });
    let lines: Vec<_> = target.crypto.iter().map(line).collect();
    (!lines.is_empty()).then(|| ("crypto".to_owned(), serde_json::Value::from(lines).to_string()))
}

/// Where the peer moved to.
pub(super) fn moved(target: &Target) -> Vec<(String, String)> {
    let fact = |name: &str, value: String| (name.to_owned(), value);
    vec![
        fact("codec", target.format.name().to_owned()),
        fact("remote-rtp-ip", target.address.ip().to_string()),
        fact("remote-rtp-port", target.address.port().to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> wit::RtpEndpoint {
        wit::RtpEndpoint {
            receive_ip: "10.0.0.1".into(),
            receive_port: 30_000,
            codec: "GSM".into(),
            telephone_event_payload_type: Some(101),
            crypto: vec![wit::SdesCrypto { suite: "AES_CM_128_HMAC_SHA1_80".into(), id: 1, config: "inline:key".into() }],
        }
    }

    #[test]
    fn ic_188_an_endpoint_is_read_or_refused_by_field() {
        let device = endpoint("httpcall.endpoint", given()).expect("a good one");
        assert_eq!((device.address.to_string().as_str(), device.format), ("10.0.0.1:30000", Format::Gsm));
        assert_eq!((device.telephone_event, device.crypto[0].tag()), (Some(101), 1));
        let refused = |change: &dyn Fn(&mut wit::RtpEndpoint)| {
            let mut endpoint = given();
            change(&mut endpoint);
            super::endpoint("e", endpoint).expect_err("a bad one").field
        };
        assert_eq!(refused(&|e| e.receive_ip = "host".into()), "e.receive-ip");
        assert_eq!(refused(&|e| e.codec = "G729".into()), "e.codec");
        assert_eq!(refused(&|e| e.crypto[0].config = "key".into()), "e.crypto");
    }

    #[test]
    fn ic_051_a_peers_keys_go_on_as_they_came() {
        let crypto_of = |lines: Vec<Crypto>| {
            crypto(&Target { format: Format::Pcma, address: "192.0.2.9:4000".parse().unwrap(), telephone_event: None, crypto: lines })
        };
        assert_eq!(crypto_of(Vec::new()), None);
        let line = Crypto::new(2, "AES_CM_128_HMAC_SHA1_32", "inline:key|2^20|1:4").unwrap();
        let (name, json) = crypto_of(vec![line]).expect("it has keys");
        assert_eq!(
            (name.as_str(), json.as_str()),
            ("crypto", r#"[{"suite":"AES_CM_128_HMAC_SHA1_32","id":2,"config":"inline:key|2^20|1:4"}]"#)
        );
    }
}
