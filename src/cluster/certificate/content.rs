//! The content of the Secret, and its renewal. Pure, except for the randomness of keys.
//!
//! A CA is replaced in three steps, so that API servers never receive a certificate that they do not trust:
//!
//! 1. The next CA is created and trusted: it is in the bundle beside the CA that signs.
//! 2. Once every webhook has had that bundle for a while, the next CA signs. The previous CA is still trusted.
//! 3. Once the last certificate of the previous CA has expired, that CA is removed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use crate::pki::{self, Facts, Pem, Validity};

/// Validity of a CA.
const CA_LIFETIME: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
/// Validity of a serving certificate.
const LEAF_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

const CA: (&str, &str) = ("ca.crt", "ca.key");
const NEXT_CA: (&str, &str) = ("next-ca.crt", "next-ca.key");
const LEAF: (&str, &str) = ("tls.crt", "tls.key");
const PREVIOUS_CA: &str = "previous-ca.crt";
const PREVIOUS_LEAF: &str = "previous-tls.crt";
/// All keys of the Secret that Portcullis manages.
pub(super) const KEYS: [&str; 8] = [CA.0, CA.1, NEXT_CA.0, NEXT_CA.1, LEAF.0, LEAF.1, PREVIOUS_CA, PREVIOUS_LEAF];

/// The data of a Secret.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// The content of a Secret in its valid state.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// The CA that signs.
    ca: Pem,
    /// The serving certificate.
    pub(super) leaf: Pem,
    /// The CA that will sign next.
    pub(super) next: Option<Pem>,
    /// The certificate of the previous CA, and the last certificate that it signed.
    previous: Option<(String, String)>,
}

/// The current time, and the known state of the cluster.
#[derive(Clone, Debug)]
pub(super) struct Circumstances<'a> {
    pub(super) now: SystemTime,
    /// The names that the certificate has to contain.
    pub(super) names: &'a [String],
    /// A CA that every webhook trusts, and the time since which that was observed.
    pub(super) trusted: Option<(&'a str, SystemTime)>,
    /// The time for which every webhook has to trust the next CA before that CA signs.
    pub(super) notice: Duration,
}

/// A change of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The Secret was empty. A CA and a serving certificate were created.
    Made,
    /// The stored content is gone or unusable. The last known content is stored again, because the webhooks already
    /// trust it.
    Restored,
    /// The stored content was unusable. A CA and a serving certificate were created, and no webhook trusts them yet.
    Replaced(String),
    /// A serving certificate was created.
    Renewed(String),
    /// The next CA was created. It is trusted from now on.
    Announced,
    /// The next CA signs from now on.
    Switched,
    /// The previous CA is not trusted any more.
    Forgotten,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Made => f.write_str("created a CA and a serving certificate"),
            Self::Replaced(why) => {
                write!(f, "created a new CA and a serving certificate, because the CA was unusable: {why}")
            }
            Self::Restored => f.write_str("restored the last known content"),
            Self::Renewed(why) => write!(f, "created a serving certificate: {why}"),
            Self::Announced => f.write_str("created the next CA, which signs once every webhook trusts it"),
            Self::Switched => f.write_str("the next CA signs from now on"),
            Self::Forgotten => f.write_str("removed the previous CA, because its last certificate has expired"),
        }
    }
}

impl Content {
    /// Returns the content as it has to be now, and the changes that lead to it. `last` is the content of the last
    /// check.
    pub(super) fn tend(
        data: &Data,
        last: Option<&Self>,
        now: &Circumstances<'_>,
    ) -> Result<(Self, Vec<Change>), pki::Error> {
        let mut changes = Vec::new();
        let is_usable = |data: &Data| [CA, NEXT_CA].iter().any(|keys| authority(data, *keys, now.now).is_ok());
        let before = last.map(Self::data).filter(|before| !is_usable(data) && is_usable(before));
        let data = before.as_ref().map_or(data, |before| {
            changes.push(Change::Restored);
            before
        });
        let next = authority(data, NEXT_CA, now.now).ok();
        let leaf = pair(data, LEAF).unwrap_or(Pem { certificate: String::new(), key: String::new() });
        let mut content = match (authority(data, CA, now.now), next) {
            (Ok(ca), next) => Self { ca, leaf, next, previous: previous(data) },
            // Certificates of an unusable CA are useless. The next CA is already trusted, unlike a new one.
            (Err(_), Some(next)) => {
                changes.push(Change::Switched);
                Self { ca: next, leaf, next: None, previous: None }
            }
            (Err(why), None) => {
                let is_empty = KEYS.iter().all(|key| !data.contains_key(*key));
                changes.push(if is_empty { Change::Made } else { Change::Replaced(why) });
                let ca = new_authority(now.now)?;
                let leaf = new_leaf(&ca, now)?;
                Self { ca, leaf, next: None, previous: None }
            }
        };
        if content.is_trusted_everywhere(now)
            && let Some(next) = content.next.take()
        {
            let before = std::mem::replace(&mut content.ca, next);
            let leaf = std::mem::replace(&mut content.leaf, new_leaf(&content.ca, now)?);
            content.previous = Some((before.certificate, leaf.certificate));
            changes.push(Change::Switched);
        }
        if let Some(why) = unfit(&content.ca, &content.leaf, now) {
            content.leaf = new_leaf(&content.ca, now)?;
            changes.push(Change::Renewed(why));
        }
        if content.next.is_none() && Facts::of(&content.ca.certificate)?.is_old(now.now) {
            content.next = Some(new_authority(now.now)?);
            changes.push(Change::Announced);
        }
        // API servers do not trust an unreadable certificate either.
        let is_over = |leaf: &str| Facts::of(leaf).map_or(true, |facts| facts.not_after <= now.now);
        if content.previous.take_if(|(_, leaf)| is_over(leaf)).is_some() {
            changes.push(Change::Forgotten);
        }
        Ok((content, changes))
    }

    /// Returns true if every webhook has trusted the next CA for long enough.
    fn is_trusted_everywhere(&self, now: &Circumstances<'_>) -> bool {
        let (Some(next), Some((trusted, since))) = (&self.next, now.trusted) else { return false };
        next.certificate == trusted && now.now >= since + now.notice
    }

    /// Returns the certificates of all CAs that API servers have to trust.
    pub(super) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.certificate.as_str());
        let previous = self.previous.as_ref().map(|(ca, _)| ca.as_str());
        [Some(self.ca.certificate.as_str()), next, previous].into_iter().flatten().map(with_end).collect()
    }

    /// Returns the data to store.
    pub(super) fn data(&self) -> Data {
        let mut data = Data::new();
        let mut insert = |key: &str, text: &str| data.insert(key.to_owned(), text.as_bytes().to_vec());
        for (keys, pem) in [(CA, Some(&self.ca)), (LEAF, Some(&self.leaf)), (NEXT_CA, self.next.as_ref())] {
            if let Some(pem) = pem {
                insert(keys.0, &pem.certificate);
                insert(keys.1, &pem.key);
            }
        }
        if let Some((ca, leaf)) = &self.previous {
            insert(PREVIOUS_CA, ca);
            insert(PREVIOUS_LEAF, leaf);
        }
        data
    }
}

fn with_end(pem: &str) -> String {
    format!("{}\n", pem.trim_end())
}

fn text(data: &Data, key: &str) -> Option<String> {
    data.get(key).and_then(|bytes| String::from_utf8(bytes.clone()).ok())
}

fn pair(data: &Data, (certificate, key): (&str, &str)) -> Option<Pem> {
    Some(Pem { certificate: text(data, certificate)?, key: text(data, key)? })
}

fn previous(data: &Data) -> Option<(String, String)> {
    Some((text(data, PREVIOUS_CA)?, text(data, PREVIOUS_LEAF)?))
}

/// Returns a CA that can sign now, or the reason why it cannot.
fn authority(data: &Data, keys: (&str, &str), now: SystemTime) -> Result<Pem, String> {
    let pem = pair(data, keys).ok_or_else(|| format!("{} or {} is missing", keys.0, keys.1))?;
    let facts = Facts::of_pair(&pem).map_err(|error| error.to_string())?;
    match facts {
        Facts { is_ca: false, .. } => Err("not a CA certificate".to_owned()),
        Facts { not_after, .. } if not_after <= now => Err("expired".to_owned()),
        Facts { not_before, .. } if not_before > now => Err("not valid yet; check the clocks".to_owned()),
        _ => Ok(pem),
    }
}

/// Returns the reason to replace a serving certificate, if there is one.
fn unfit(ca: &Pem, leaf: &Pem, now: &Circumstances<'_>) -> Option<String> {
    let facts = match Facts::of_pair(leaf) {
        Ok(facts) => facts,
        Err(error) => return Some(format!("the old one is unusable: {error}")),
    };
    if let Some(name) = now.names.iter().find(|name| !facts.names.contains(name)) {
        return Some(format!("the old one lacks the name {name}"));
    }
    if facts.not_before > now.now {
        return Some("the old one is not valid yet; check the clocks".to_owned());
    }
    if facts.is_old(now.now) {
        return Some("two thirds of the lifetime of the old one have passed".to_owned());
    }
    pki::signs(&ca.certificate, &leaf.certificate)
        .err()
        .map(|error| format!("the old one is not signed by this CA: {error}"))
}

fn new_authority(now: SystemTime) -> Result<Pem, pki::Error> {
    pki::new_ca_for("portcullis CA", Validity { now, lifetime: CA_LIFETIME })
}

fn new_leaf(ca: &Pem, now: &Circumstances<'_>) -> Result<Pem, pki::Error> {
    // API servers reject the certificates of an expired CA.
    let left = Facts::of(&ca.certificate)?.not_after.duration_since(now.now).unwrap_or_default();
    pki::new_leaf_for(ca, now.names, Validity { now: now.now, lifetime: LEAF_LIFETIME.min(left) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const NOTICE: Duration = Duration::from_secs(60);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn names() -> Vec<String> {
        ["portcullis.portcullis-system.svc", "localhost"].map(str::to_owned).into()
    }

    /// Returns the renewed content and its changes, with nothing known of the webhooks.
    fn tend(data: &Data, now: SystemTime) -> (Content, Vec<Change>) {
        Content::tend(data, None, &Circumstances { now, names: &names(), trusted: None, notice: NOTICE }).unwrap()
    }

    fn fresh() -> Content {
        tend(&Data::new(), start()).0
    }

    /// Returns the day on which two thirds of the validity of the CA are over.
    fn late() -> SystemTime {
        start() + 1217 * DAY
    }

    fn is_renewed(changes: &[Change], why: &str) -> bool {
        matches!(changes, [Change::Renewed(text)] if text.contains(why))
    }

    /// The lost content is worth restoring: every webhook trusts it, and the other replicas serve it.
    #[test]
    fn what_was_lost_is_stored_again() {
        let (names, content) = (names(), fresh());
        let now = |now| Circumstances { now, names: &names, trusted: None, notice: NOTICE };
        let mut damaged = content.data();
        damaged.insert("ca.key".to_owned(), b"not a key".to_vec());
        for data in [Data::new(), damaged] {
            let (after, changes) = Content::tend(&data, Some(&content), &now(start() + DAY)).unwrap();
            assert!(after == content && changes == [Change::Restored], "{changes:?}");
        }
        // The content that another replica has stored meanwhile is as good. Expired content is not.
        let other = fresh();
        assert!(Content::tend(&other.data(), Some(&content), &now(start() + DAY)).unwrap().0 == other);
        let late = Content::tend(&Data::new(), Some(&content), &now(start() + 1826 * DAY)).unwrap();
        assert_eq!(late.1[0], Change::Made);
    }

    #[test]
    fn an_empty_secret_gets_a_ca_and_a_certificate_that_it_signed() {
        let (content, changes) = tend(&Data::new(), start());
        assert_eq!(changes, [Change::Made]);
        assert_eq!(content.bundle(), content.ca.certificate);
        pki::signs(&content.bundle(), &content.leaf.certificate).unwrap();
        assert_eq!(Facts::of(&content.leaf.certificate).unwrap().names, names());
        let keys: Vec<String> = content.data().into_keys().collect();
        assert_eq!(keys, ["ca.crt", "ca.key", "tls.crt", "tls.key"]);
    }

    #[test]
    fn what_is_in_order_stays() {
        let content = fresh();
        let (after, changes) = tend(&content.data(), start() + 59 * DAY);
        assert_eq!(changes, []);
        assert!(after == content);
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life_by_the_same_ca() {
        let content = fresh();
        let (after, changes) = tend(&content.data(), start() + 61 * DAY);
        assert!(is_renewed(&changes, "two thirds"), "{changes:?}");
        assert!(after.ca == content.ca && after.leaf != content.leaf);
        assert_eq!(after.bundle(), content.bundle(), "the webhooks need not trust a new CA");
        assert_eq!(Facts::of(&after.leaf.certificate).unwrap().not_after, start() + 151 * DAY);
    }

    #[test]
    fn a_certificate_gets_the_names_that_it_lacks_and_keeps_those_it_has_besides() {
        let data = fresh().data();
        let tend = |names: &[String]| {
            Content::tend(&data, None, &Circumstances { now: start(), names, trusted: None, notice: NOTICE }).unwrap().1
        };
        let more = [names(), vec!["webhook.example.com".to_owned()]].concat();
        assert!(is_renewed(&tend(&more), "lacks the name webhook.example.com"));
        assert_eq!(tend(&names()[..1]), []);
    }

    #[test]
    fn a_ca_is_replaced_in_three_steps() {
        // The certificate is young, so that nothing else happens.
        let young = tend(&fresh().data(), late() - DAY).0;
        let (announced, changes) = tend(&young.data(), late());
        assert_eq!(changes, [Change::Announced]);
        let next = announced.next.clone().unwrap();
        assert!(announced.ca == young.ca && announced.leaf == young.leaf, "the old one still signs");
        assert_eq!(announced.bundle(), [&*young.ca.certificate, &*next.certificate].concat());

        let tend_trusted = |ca: &str, since: SystemTime| {
            let names = names();
            let now = Circumstances { now: late() + DAY, names: &names, trusted: Some((ca, since)), notice: NOTICE };
            Content::tend(&announced.data(), None, &now).unwrap()
        };
        let (same, changes) = tend(&announced.data(), late() + DAY);
        assert!(changes.is_empty() && same == announced, "it is not known who trusts it");
        assert_eq!(tend_trusted(&young.ca.certificate, late()).1, [], "it is the other one that they trust");
        let just_now = late() + DAY - NOTICE / 2;
        assert_eq!(tend_trusted(&next.certificate, just_now).1, [], "not every API server may have noticed");
        let (switched, changes) = tend_trusted(&next.certificate, late());
        assert_eq!(changes, [Change::Switched]);
        assert!(switched.ca == next && switched.next.is_none());
        pki::signs(&next.certificate, &switched.leaf.certificate).unwrap();
        assert_eq!(switched.bundle(), [&*next.certificate, &*young.ca.certificate].concat());

        let last = Facts::of(&young.leaf.certificate).unwrap().not_after;
        assert!(tend(&switched.data(), last - DAY).0.bundle().contains(young.ca.certificate.trim()));
        let renewed = tend(&switched.data(), last - DAY).0;
        let (forgotten, changes) = tend(&renewed.data(), last);
        assert_eq!(changes, [Change::Forgotten]);
        assert_eq!(forgotten.bundle(), next.certificate);
        assert_eq!(tend(&forgotten.data(), last).1, []);
    }

    #[test]
    fn an_expired_ca_gives_way_to_the_next_one() {
        let announced = tend(&fresh().data(), late()).0;
        let (after, changes) = tend(&announced.data(), start() + 1826 * DAY);
        assert_eq!(changes.first(), Some(&Change::Switched));
        assert!(Some(&after.ca) == announced.next.as_ref());
        pki::signs(&after.ca.certificate, &after.leaf.certificate).unwrap();
        let (_, changes) = tend(&fresh().data(), start() + 1826 * DAY);
        assert_eq!(changes, [Change::Replaced("expired".to_owned())]);
    }

    #[test]
    fn a_certificate_does_not_outlive_its_ca() {
        let (content, _) = tend(&fresh().data(), start() + 1800 * DAY);
        let until = |certificate: &str| Facts::of(certificate).unwrap().not_after;
        assert_eq!(until(&content.leaf.certificate), until(&content.ca.certificate));
    }

    #[test]
    fn of_what_is_broken_only_that_is_replaced() {
        let (content, other) = (fresh(), fresh());
        let with = |key: &str, text: &str| {
            let mut data = content.data();
            data.insert(key.to_owned(), text.as_bytes().to_vec());
            data
        };
        for (data, why) in [
            (with("tls.crt", "none"), "is unusable"),
            (with("tls.key", ""), "is unusable"),
            (with("tls.key", &other.leaf.key), "does not belong"),
        ] {
            let (after, changes) = tend(&data, start());
            assert!(is_renewed(&changes, why), "{changes:?}");
            assert!(after.ca == content.ca);
        }
        let mut foreign = content.data();
        foreign.extend(other.data().into_iter().filter(|(key, _)| key.starts_with("tls.")));
        assert!(is_renewed(&tend(&foreign, start()).1, "not signed by this CA"));

        for (data, why) in [
            (with("ca.crt", "none"), "no certificate"),
            (with("ca.key", &other.ca.key), "does not belong"),
            (with("ca.crt", &content.leaf.certificate), "does not belong"),
        ] {
            let (after, changes) = tend(&data, start());
            assert!(matches!(&*changes, [Change::Replaced(text)] if text.contains(why)), "{changes:?}");
            assert!(after.ca != content.ca);
            pki::signs(&after.ca.certificate, &after.leaf.certificate).unwrap();
            assert_eq!(tend(&after.data(), start()).1, [], "and that is in order");
        }
    }

    #[test]
    fn a_next_ca_that_is_broken_is_made_anew() {
        let mut data = tend(&fresh().data(), late()).0.data();
        data.insert("next-ca.key".to_owned(), b"none".to_vec());
        let (after, changes) = tend(&data, late());
        assert_eq!(changes, [Change::Announced]);
        assert!(Facts::of_pair(after.next.as_ref().unwrap()).is_ok());
    }

    #[test]
    fn clocks_that_differ_a_little_change_nothing_and_others_are_told_of() {
        let data = fresh().data();
        let minutes = Duration::from_secs(50 * 60);
        assert_eq!(tend(&data, start() - minutes).1, [], "it was made by a clock that is ahead");
        let (_, changes) = tend(&data, start() - DAY);
        assert!(matches!(&*changes, [Change::Replaced(why)] if why.contains("check the clocks")), "{changes:?}");
        // A certificate from a clock that runs behind is accepted by clocks that are right.
        let behind = tend(&Data::new(), start() - DAY).0;
        assert_eq!(tend(&behind.data(), start()).1, []);
        // So is a certificate that such a clock signs with an existing CA, which it takes for younger than it is.
        let (renewed, changes) = tend(&data, start() - minutes + 61 * DAY);
        assert!(is_renewed(&changes, "two thirds"), "{changes:?}");
        assert_eq!(tend(&renewed.data(), start() + 61 * DAY).1, []);
    }
}
