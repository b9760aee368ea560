//! API keys: what is kept of them, and what is recorded of their changes.

use jiff::SignedDuration;
use reveille_shared::access::{Grant, KeyText, Names, Role};
use reveille_shared::store::{Action, DefinitionKind, EVERYWHERE, KeyStanding, NewKey, ScheduleKey};

use crate::bed::{Bed, on_both};

on_both!(
    a_key_is_kept_without_its_secret,
    a_rotated_key_has_two_secrets_for_a_while,
    a_revoked_key_stays_so,
    keys_are_found_by_prefix_and_name,
    each_change_is_recorded_where_it_belongs,
    the_last_use_never_goes_back,
);

const BY: (&str, Option<&str>) = ("anna", Some("because"));

fn new(name: &str, namespaces: Names) -> NewKey {
    let grant = Grant { role: Role::Operator, namespaces, jobs: Names::only(["a", "b"]) };
    NewKey { text: KeyText::generate().unwrap(), name: name.to_owned(), grant, expires_at: None }
}

async fn a_key_is_kept_without_its_secret(bed: Bed) {
    let new = new("ci", Names::only(["billing"]));
    let made = bed.store.create_key(new.clone(), BY).await.unwrap();
    let kept = bed.store.key(&made.prefix).await.unwrap().unwrap();
    assert_eq!(kept, made);
    assert_eq!((kept.name.as_str(), &kept.grant, kept.created_by.as_str()), ("ci", &new.grant, "anna"));
    assert!(kept.is_opened_by(&new.text, bed.now().await) && kept.standing(bed.now().await) == KeyStanding::Good);
    let secret = new.text.reveal().rsplit_once('_').unwrap().1.to_owned();
    assert!(!format!("{kept:?}").contains(&secret));
    assert!(bed.store.key("nobody").await.unwrap().is_none());
}

async fn a_rotated_key_has_two_secrets_for_a_while(bed: Bed) {
    let new = new("ci", Names::All);
    let made = bed.store.create_key(new.clone(), BY).await.unwrap();
    let second = KeyText::with_prefix(&made.prefix).unwrap();
    let rotated = bed.store.rotate_key(&second, SignedDuration::from_hours(1), BY).await.unwrap().unwrap();
    let (now, kept) = (bed.now().await, bed.store.key(&made.prefix).await.unwrap().unwrap());
    assert_eq!((&kept, kept.version), (&rotated, 2));
    let later = now + SignedDuration::from_hours(2);
    assert!(kept.is_opened_by(&new.text, now) && kept.is_opened_by(&second, now));
    assert!(!kept.is_opened_by(&new.text, later) && kept.is_opened_by(&second, later));
    let stranger = KeyText::generate().unwrap();
    assert!(bed.store.rotate_key(&stranger, SignedDuration::ZERO, BY).await.unwrap().is_none());
}

async fn a_revoked_key_stays_so(bed: Bed) {
    let made = bed.store.create_key(new("ci", Names::All), BY).await.unwrap();
    let first = bed.store.revoke_key(&made.prefix, BY).await.unwrap().unwrap();
    assert_eq!(first.standing(bed.now().await), KeyStanding::Revoked);
    assert_eq!(bed.store.revoke_key(&made.prefix, BY).await.unwrap().unwrap(), first, "a repeat changes nothing");
    let text = KeyText::with_prefix(&made.prefix).unwrap();
    assert!(bed.store.rotate_key(&text, SignedDuration::ZERO, BY).await.unwrap().is_none());
    assert!(bed.store.revoke_key("nobody", BY).await.unwrap().is_none());
}

async fn keys_are_found_by_prefix_and_name(bed: Bed) {
    let mut prefixes = Vec::new();
    for name in ["ci of billing", "ci of claims", "100% sure_"] {
        prefixes.push(bed.store.create_key(new(name, Names::All), BY).await.unwrap().prefix);
    }
    let found = async |after: &str, part: &str, limit| {
        let keys = bed.store.keys(after, part, limit).await.unwrap();
        keys.into_iter().map(|key| key.prefix).collect::<Vec<_>>()
    };
    assert_eq!(found("", &prefixes[1], 10).await, [prefixes[1].clone()]);
    assert_eq!(found("", "billing", 10).await, [prefixes[0].clone()]);
    assert_eq!(found("", "%", 10).await, [prefixes[2].clone()], "no character is special");
    prefixes.sort();
    assert_eq!(found("", "", 10).await, prefixes);
    assert_eq!(found(&prefixes[0], "", 1).await, prefixes[1..2]);
}

async fn each_change_is_recorded_where_it_belongs(bed: Bed) {
    let one = bed.store.create_key(new("one", Names::only(["billing"])), BY).await.unwrap();
    let all = bed.store.create_key(new("all", Names::All), BY).await.unwrap();
    let two = bed.store.create_key(new("two", Names::only(["billing", "claims"])), BY).await.unwrap();
    bed.store.revoke_key(&one.prefix, ("bob", None)).await.unwrap();
    let told = async |namespace: &str| {
        let changes = bed.store.changes_of_namespace(namespace, i64::MAX, 10).await.unwrap();
        let told = changes.into_iter().map(|named| (named.kind, named.name, named.change.action, named.change.actor));
        told.collect::<Vec<_>>()
    };
    let key = |name: &str, action, by: &str| (DefinitionKind::Key, name.to_owned(), action, by.to_owned());
    let of_billing = [key(&one.prefix, Action::Revoked, "bob"), key(&one.prefix, Action::Created, "anna")];
    assert_eq!(told("billing").await, of_billing);
    let of_all = [key(&two.prefix, Action::Created, "anna"), key(&all.prefix, Action::Created, "anna")];
    assert_eq!(told(EVERYWHERE).await, of_all);
    assert_eq!(told("claims").await, []);
    let place = ScheduleKey { namespace: "billing".into(), name: one.prefix };
    let changes = bed.store.changes(DefinitionKind::Key, &place, i64::MAX, 10).await.unwrap();
    assert_eq!(changes[1].spec.as_ref().unwrap()["access"]["role"], "operator");
    assert_eq!(changes.iter().map(|change| change.version).collect::<Vec<_>>(), [2, 1]);
}

async fn the_last_use_never_goes_back(bed: Bed) {
    let made = bed.store.create_key(new("ci", Names::All), BY).await.unwrap();
    let now = bed.now().await;
    let later = now + SignedDuration::from_secs(5);
    for at in [later, now] {
        bed.store.keys_used(&[(made.prefix.clone(), at), ("nobody".to_owned(), at)]).await.unwrap();
    }
    let used = bed.store.key(&made.prefix).await.unwrap().unwrap().last_used_at.unwrap();
    assert_eq!(used.as_millisecond(), later.as_millisecond());
}
