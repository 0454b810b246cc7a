//! The bytes that the members of a group may keep.

use super::*;

#[test]
fn a_group_refuses_members_whose_metadata_would_exceed_its_bytes() {
    let mut harness = Harness::new(CONFIG);
    let mut join = |bytes: usize| {
        harness.token += 1;
        let mut request = harness.request("", None);
        request.protocols = vec![("range".into(), Bytes::from(vec![0; bytes]))];
        let outcome = harness
            .coordinator
            .join(harness.token, request, harness.now);
        harness.run(outcome);
        let token = harness.token;
        match harness.reply(token) {
            Some(Reply::Join { error, .. }) => error,
            // The member waits for the others.
            None => ErrorCode::None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(join(20 << 20), ErrorCode::None);
    assert_eq!(join(13 << 20), ErrorCode::GroupMaxSizeReached);
    assert_eq!(join(100 << 20), ErrorCode::GroupMaxSizeReached);
    assert_eq!(join(10 << 20), ErrorCode::None);
}
