//! Signatures of the Standard Webhooks specification, version 1.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::secrets::SigningSecret;

/// The value of `webhook-signature`: one signature for each secret. `timestamp` is in Unix seconds.
pub(super) fn signatures(secrets: &[SigningSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let sign = |secret: &SigningSecret| {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.bytes()));
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64.encode(context.sign()))
    };
    secrets.iter().map(sign).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is the specification's own; the others were made by `standardwebhooks` 1.1.0 for Python.
    #[test]
    fn signatures_are_those_of_others_implementations() {
        for (secret, id, timestamp, body, expected) in [
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1614265330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "0198c0de-0000-7000-8000-000000000001/5",
                1772359200,
                r#"{"type":"io.reveille.workRequest.failed","data":{"status":"FAILED"}}"#,
                "v1,GWs8DefzVu0+3mNfblCwabmORQ9QuIf55OC3uL/3MLk=",
            ),
            (
                "whsec_//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=",
                "x",
                0,
                "",
                "v1,JI0PcQ2Kc1ZgDJFEVPpZbFq2OszIGtAklqXAS0OqyGg=",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "n",
                1772359200,
                r#"{"grüße":"☃"}"#,
                "v1,y6KFJzl1aqE0uLGMuRloEOSGlPeWU3DpnLtSz2dRGw0=",
            ),
        ] {
            let secrets = [SigningSecret::of_shown(secret)];
            assert_eq!(signatures(&secrets, id, timestamp, body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn during_a_rotation_each_secret_signs() {
        let secrets = [SigningSecret::generate(), SigningSecret::generate()];
        let both = signatures(&secrets, "a/1", 7, b"{}");
        let each: Vec<_> = secrets.iter().map(|one| signatures(std::slice::from_ref(one), "a/1", 7, b"{}")).collect();
        assert_eq!(both, each.join(" "));
    }
}
