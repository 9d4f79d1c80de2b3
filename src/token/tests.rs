//! Keys that are genuine, and all those that are not.

use super::*;
use crate::consumer::rule::Pattern;
use serde_json::json;

const NOW: UnixTime = UnixTime(1_800_000_000_500);
const HOUR: Duration = Duration::from_secs(3600);

fn secret(id: &str, valid: Window) -> Secret {
    Secret {
        id: id.to_owned(),
        secret: Hidden(format!("{id}-0123456789abcdef0123456789abcdef")),
        valid,
    }
}

fn signing(secrets: Vec<Secret>) -> Signing {
    Signing { secrets, max_ttl: HOUR }
}

fn one() -> Signing {
    signing(vec![secret("one", Window::ALWAYS)])
}

fn issue(signing: &Signing, scope: &Value, now: UnixTime) -> Issued {
    let (drawn, until) = ([7; 16], UnixTime::NEVER);
    let draft = Draft { consumer: "acme", ttl: HOUR, until, scope, drawn };
    signing.issue(&draft, now).unwrap()
}

fn verify(signing: &Signing, key: &str, now: UnixTime) -> Result<Temporary, Unverified> {
    assert!(looks_like_one(key.as_bytes()), "{key}");
    signing.verify(key.as_bytes(), now)
}

fn later(seconds: u64) -> UnixTime {
    NOW.after(Duration::from_secs(seconds))
}

/// A token with these parts, signed with HS256 and that secret.
fn forged(header: &Value, claims: &Value, secret: &[u8]) -> String {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let encode = |part: &Value| Base64UrlUnpadded::encode_string(part.to_string().as_bytes());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes()))
}

fn claims() -> Value {
    json!({"iss": "keyward", "sub": "acme", "jti": "acme.1", "iat": NOW.0 / 1000, "exp": NOW.0 / 1000 + 60, "keyward": {}})
}

#[test]
fn what_is_issued_is_verified_by_every_envoy_with_the_secret() {
    let scope = json!({"models": ["fast", "gpt-*"], "endpoints": ["chat"], "cidrs": ["10.0.0.0/8"], "uses": 3,
        "limits": [{"requests": 5, "per": "minute"}]});
    let issued = issue(&one(), &scope, NOW);
    assert_eq!(issued.expires, UnixTime(1_800_003_600_000), "whole seconds");
    let key = verify(&one(), &issued.key, NOW).unwrap();
    assert_eq!(
        (key.consumer.as_str(), key.id == issued.id, key.expires),
        ("acme", true, issued.expires)
    );
    let models = vec![Pattern::of_model("fast"), Pattern::of_model("gpt-*")];
    assert_eq!((key.scope.models, key.scope.uses), (Some(models), Some(3)));
    assert_eq!((key.scope.limits.list.len(), key.scope.cidrs.map(|c| c.len())), (1, Some(1)));
    assert!(!issued.key.contains("0123456789abcdef"), "nothing of the secret");
}

#[test]
fn it_ends_with_the_first_of_all_its_ends() {
    let ends = |signing: &Signing, ttl: u64, until| {
        let ttl = Duration::from_secs(ttl);
        let draft = Draft { consumer: "acme", ttl, until, scope: &json!({}), drawn: [0; 16] };
        signing.issue(&draft, NOW).map(|issued| issued.expires.0 / 1000 - NOW.0 / 1000)
    };
    assert_eq!(ends(&one(), 60, UnixTime::NEVER), Some(60));
    assert_eq!(ends(&one(), 7200, UnixTime::NEVER), Some(3600), "max_ttl");
    assert_eq!(ends(&one(), 60, later(30)), Some(30), "the key it was issued with");
    let brief = signing(vec![secret("a", Window { from: UnixTime(0), until: later(10) })]);
    assert_eq!(ends(&brief, 60, UnixTime::NEVER), Some(10), "the secret");

    let issued = issue(&one(), &json!({}), NOW);
    assert!(verify(&one(), &issued.key, later(3599)).is_ok());
    assert_eq!(verify(&one(), &issued.key, later(3600)), Err(Unverified::Expired));
    let shorter = Signing { max_ttl: Duration::from_secs(60), ..one() };
    assert!(verify(&shorter, &issued.key, later(59)).is_ok());
    assert_eq!(
        verify(&shorter, &issued.key, later(60)),
        Err(Unverified::Expired),
        "shortened since"
    );
    let behind = UnixTime(NOW.0 - 29_000);
    assert!(verify(&one(), &issued.key, behind).is_ok(), "another Envoy's clock");
    assert_eq!(verify(&one(), &issued.key, UnixTime(NOW.0 - 31_500)), Err(Unverified::NotYet));
}

#[test]
fn secrets_rotate_with_overlap() {
    let change = later(100);
    let rotation = || {
        let new = secret("new", Window { from: change, until: UnixTime::NEVER });
        signing(vec![new, secret("old", Window { from: UnixTime(0), until: later(2000) })])
    };
    let kid = |key: &str| UntrustedToken::new(key).unwrap().header().key_id.clone().unwrap();
    let (before, after) =
        (issue(&rotation(), &json!({}), NOW), issue(&rotation(), &json!({}), change));
    assert_eq!((kid(&before.key), kid(&after.key)), ("old".to_owned(), "new".to_owned()));
    for key in [&before.key, &after.key] {
        assert!(verify(&rotation(), key, later(1999)).is_ok(), "both verify");
    }
    // An Envoy whose clock is behind does not know yet that the new one signs.
    assert!(verify(&rotation(), &after.key, later(80)).is_ok());
    assert_eq!(verify(&rotation(), &before.key, later(2000)), Err(Unverified::Foreign), "retired");
    let none = signing(vec![secret("old", Window { from: UnixTime(0), until: NOW })]);
    let draft = Draft {
        consumer: "a",
        ttl: HOUR,
        until: UnixTime::NEVER,
        scope: &json!({}),
        drawn: [0; 16],
    };
    assert!(none.issue(&draft, NOW).is_none());
}

#[test]
fn nothing_else_is_genuine() {
    let right = one().secrets[0].secret.0.clone();
    let header = json!({"alg": "HS256", "kid": "one"});
    assert!(
        verify(&one(), &forged(&header, &claims(), right.as_bytes()), NOW).is_ok(),
        "the control"
    );

    let with = |member: &str, value: Value| {
        let mut claims = claims();
        claims[member] = value;
        claims
    };
    let without = |member: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(member);
        claims
    };
    for (name, header, claims, secret) in [
        ("signed with another secret", header.clone(), claims(), "guess"),
        ("no secret", header.clone(), claims(), ""),
        ("alg none", json!({"alg": "none", "kid": "one"}), claims(), right.as_str()),
        ("alg None", json!({"alg": "None", "kid": "one"}), claims(), &right),
        ("another hash", json!({"alg": "HS512", "kid": "one"}), claims(), &right),
        ("another family", json!({"alg": "RS256", "kid": "one"}), claims(), &right),
        ("no alg", json!({"kid": "one"}), claims(), &right),
        ("unknown kid", json!({"alg": "HS256", "kid": "two"}), claims(), &right),
        ("no kid", json!({"alg": "HS256"}), claims(), &right),
        ("another issuer", header.clone(), with("iss", json!("other")), &right),
        ("no issuer", header.clone(), without("iss"), &right),
        ("no consumer", header.clone(), without("sub"), &right),
        ("no id", header.clone(), without("jti"), &right),
        ("no end", header.clone(), without("exp"), &right),
        ("no beginning", header.clone(), without("iat"), &right),
        ("no scope", header.clone(), without("keyward"), &right),
        (
            "a scope of another version",
            header.clone(),
            with("keyward", json!({"colours": []})),
            &right,
        ),
        ("a scope that is none", header.clone(), with("keyward", json!([])), &right),
        ("an end before 1970", header.clone(), with("exp", json!(-1)), &right),
    ] {
        let token = forged(&header, &claims, secret.as_bytes());
        assert_eq!(verify(&one(), &token, NOW), Err(Unverified::Foreign), "{name}");
    }
    let unsigned = forged(&json!({"alg": "none", "kid": "one"}), &claims(), b"");
    let (unsigned, _) = unsigned.rsplit_once('.').unwrap();
    assert_eq!(verify(&one(), &format!("{unsigned}."), NOW), Err(Unverified::Foreign));
}

#[test]
fn a_changed_key_is_foreign_whatever_was_changed() {
    let issued = issue(&one(), &json!({"uses": 1}), NOW);
    for at in 0..issued.key.len() {
        let mut changed = issued.key.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(one().verify(&changed, NOW), Err(Unverified::Foreign), "{at}");
        let cut = issued.key.get(..at).unwrap().as_bytes();
        assert_eq!(one().verify(cut, NOW), Err(Unverified::Foreign), "cut at {at}");
    }
    for more in ["=", ".", " ", "A"] {
        let changed = format!("{}{more}", issued.key);
        assert_eq!(one().verify(changed.as_bytes(), NOW), Err(Unverified::Foreign), "{more:?}");
    }
    assert_eq!(one().verify(b"ey\xff..", NOW), Err(Unverified::Foreign));
    for permanent in ["sk-1", "", "ey", "ey.a", "ey.a.b.c", "a.b.c"] {
        assert!(!looks_like_one(permanent.as_bytes()), "{permanent}");
    }
}

#[test]
fn an_id_tells_whose_key_it_is_and_cannot_be_made_up() {
    let issued = issue(&one(), &json!({}), NOW);
    assert_eq!(one().owner(&issued.id, NOW), Some(("acme", issued.expires)));
    let (_, number) = issued.id.rsplit_once('.').unwrap();
    for id in [
        format!("beta.{number}"),
        format!("acme.{}", number.replacen('7', "6", 1)),
        format!("acme.{}", number.to_ascii_uppercase() + "00"),
        format!("acme.{}", number.get(2..).unwrap()),
        format!("acme{number}"),
        "acme.".to_owned(),
        ".".to_owned(),
        String::new(),
    ] {
        assert_eq!(one().owner(&id, NOW), None, "{id}");
    }
    let other = signing(vec![secret("two", Window::ALWAYS)]);
    assert_eq!(other.owner(&issued.id, NOW), None);
    assert_eq!(format!("{:?}", one()).matches("***").count(), 1, "no secret is printed");
}
