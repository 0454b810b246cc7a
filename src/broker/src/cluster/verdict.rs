//! The active controller's decision about one broker: fence it, unfence it, or leave it.
//!
//! A link that ends is a death. Silence is a suspicion: a process may be paused, cut off, or only slow. A broker that is
//! silent for the whole time-out is fenced; so is one that is silent for five eighths of it (longer than a pause of one
//! second) if a follower waits in vain for an answer to its fetch, too. A controller that was itself late, or that hears of nobody else, suspects nobody.
//!
//! Fencing too early costs a change of leaders and never a record: the leader epoch protects.

use std::time::Duration;

/// A link may end and come back this fast without the process having died.
pub(super) const GONE_GRACE: Duration = Duration::from_millis(50);
/// Links that ended while this process was paused have this long to come back after it.
pub(super) const GONE_GRACE_AFTER_PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fence,
    Unfence,
    Leave,
}

/// The signs of a registered process, as this controller has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs {
    pub silence: Duration,
    /// Time since its last link ended.
    pub gone: Option<Duration>,
    /// The process says several times a second that it lives. Older versions do not.
    pub speaks_often: bool,
    /// A live follower waits in vain for an answer of the broker.
    pub is_suspected: bool,
    /// The process knows its registration.
    pub has_caught_up: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `broker.session.timeout.ms`
    pub session: Duration,
    /// `strandline.broker.silence.timeout.ms`; `None` where only the session counts.
    pub silence: Option<Duration>,
}

/// How well this controller can judge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Senses {
    /// Time since it became the active one.
    pub in_office: Duration,
    /// Time since it was paused for a second or longer.
    pub awake: Duration,
    /// Time since it was late by a few hundred milliseconds.
    pub alert: Duration,
    /// Another broker has been heard of just now.
    pub hears_others: bool,
}

/// Decides about a broker; `None` for `signs`: the registered process has not connected to this controller.
pub(super) fn judge(
    is_fenced: bool,
    signs: Option<Signs>,
    limits: Limits,
    senses: Senses,
) -> Verdict {
    let Some(signs) = signs else {
        // Brokers that have not connected to a new controller yet get the time to do so.
        let absent = senses.in_office > limits.session && senses.awake > limits.session;
        return if absent && !is_fenced {
            Verdict::Fence
        } else {
            Verdict::Leave
        };
    };
    if is_fenced {
        let limit = suspicion(signs, limits).map_or(limits.session, |limit| limit / 2);
        let well = signs.gone.is_none() && signs.silence <= limit && signs.has_caught_up;
        return if well {
            Verdict::Unfence
        } else {
            Verdict::Leave
        };
    }
    let silent = signs.silence.min(senses.awake) > limits.session;
    let gone = signs.gone.filter(|_| senses.awake > GONE_GRACE_AFTER_PAUSE);
    let gone = gone.is_some_and(|gone| gone > GONE_GRACE);
    if gone || silent || is_believed_silent(signs, limits, senses) {
        Verdict::Fence
    } else {
        Verdict::Leave
    }
}

/// The time-out of silence, where it counts.
fn suspicion(signs: Signs, limits: Limits) -> Option<Duration> {
    limits.silence.filter(|_| signs.speaks_often)
}

/// The silence that is believed when a follower hears nothing either.
fn confirmed(limit: Duration) -> Duration {
    limit.saturating_mul(5) / 8
}

fn is_believed_silent(signs: Signs, limits: Limits, senses: Senses) -> bool {
    let Some(limit) = suspicion(signs, limits).filter(|_| senses.hears_others) else {
        return false;
    };
    let silence = signs.silence.min(senses.alert);
    silence > limit || (signs.is_suspected && silence > confirmed(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(9);
    const SILENCE: Duration = Duration::from_secs(2);
    const LIMITS: Limits = Limits {
        session: SESSION,
        silence: Some(SILENCE),
    };
    const WELL: Signs = Signs {
        silence: Duration::ZERO,
        gone: None,
        speaks_often: true,
        is_suspected: false,
        has_caught_up: true,
    };
    const SHARP: Senses = Senses {
        in_office: Duration::from_secs(100),
        awake: Duration::from_secs(100),
        alert: Duration::from_secs(100),
        hears_others: true,
    };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn silent(for_ms: u64) -> Signs {
        Signs {
            silence: ms(for_ms),
            ..WELL
        }
    }

    fn suspected(for_ms: u64) -> Signs {
        Signs {
            is_suspected: true,
            ..silent(for_ms)
        }
    }

    fn gone(for_ms: u64) -> Signs {
        Signs {
            gone: Some(ms(for_ms)),
            ..WELL
        }
    }

    #[test]
    fn a_broker_is_fenced_when_its_link_ended_or_its_silence_is_believed() {
        let older = |signs: Signs| Signs {
            speaks_often: false,
            ..signs
        };
        for (signs, expected) in [
            (WELL, Verdict::Leave),
            (gone(10), Verdict::Leave),
            (gone(100), Verdict::Fence),
            (silent(1100), Verdict::Leave),
            (silent(1900), Verdict::Leave),
            (silent(2100), Verdict::Fence),
            // A follower's suspicion alone fences nobody.
            (suspected(0), Verdict::Leave),
            (suspected(1200), Verdict::Leave),
            (suspected(1300), Verdict::Fence),
            // A process of an older version speaks every two seconds.
            (older(suspected(5000)), Verdict::Leave),
            (older(silent(9100)), Verdict::Fence),
        ] {
            assert_eq!(
                judge(false, Some(signs), LIMITS, SHARP),
                expected,
                "{signs:?}"
            );
        }
    }

    #[test]
    fn a_controller_that_was_late_or_hears_nobody_suspects_nobody() {
        let late = |after_ms| Senses {
            alert: ms(after_ms),
            ..SHARP
        };
        let deaf = Senses {
            hears_others: false,
            ..SHARP
        };
        for (signs, senses, expected) in [
            (silent(8000), late(1900), Verdict::Leave),
            (silent(8000), late(2100), Verdict::Fence),
            (suspected(8000), late(1200), Verdict::Leave),
            (suspected(8000), late(1300), Verdict::Fence),
            (suspected(8000), deaf, Verdict::Leave),
            // The session counts at last.
            (silent(9100), deaf, Verdict::Fence),
            (silent(9100), late(10), Verdict::Fence),
        ] {
            assert_eq!(
                judge(false, Some(signs), LIMITS, senses),
                expected,
                "{signs:?}, {senses:?}"
            );
        }
        let off = Limits {
            silence: None,
            ..LIMITS
        };
        assert_eq!(
            judge(false, Some(suspected(8000)), off, SHARP),
            Verdict::Leave
        );
    }

    #[test]
    fn a_controller_that_was_paused_hears_brokers_again_before_it_fences_them() {
        let woken = |since_ms| Senses {
            awake: ms(since_ms),
            alert: ms(since_ms),
            ..SHARP
        };
        for (signs, senses, expected) in [
            (silent(20_000), woken(1000), Verdict::Leave),
            (silent(20_000), woken(9100), Verdict::Fence),
            (gone(100), woken(100), Verdict::Leave),
            (gone(100), woken(600), Verdict::Fence),
        ] {
            assert_eq!(
                judge(false, Some(signs), LIMITS, senses),
                expected,
                "{signs:?}, {senses:?}"
            );
        }
    }

    #[test]
    fn a_new_controller_waits_a_session_for_brokers_it_never_heard_of() {
        let since = |ms_in_office| Senses {
            in_office: ms(ms_in_office),
            ..SHARP
        };
        assert_eq!(judge(false, None, LIMITS, since(4500)), Verdict::Leave);
        assert_eq!(judge(false, None, LIMITS, since(9100)), Verdict::Fence);
        assert_eq!(judge(true, None, LIMITS, since(9100)), Verdict::Leave);
    }

    #[test]
    fn a_broker_is_unfenced_when_it_speaks_and_knows_its_registration() {
        let behind = Signs {
            has_caught_up: false,
            ..WELL
        };
        for (signs, expected) in [
            (WELL, Verdict::Unfence),
            (behind, Verdict::Leave),
            (gone(10), Verdict::Leave),
            (silent(1100), Verdict::Leave),
        ] {
            assert_eq!(
                judge(true, Some(signs), LIMITS, SHARP),
                expected,
                "{signs:?}"
            );
        }
        // A controller that has just woken has heard nobody: its own pause makes no silent broker well.
        let woken = Senses {
            awake: Duration::ZERO,
            alert: Duration::ZERO,
            ..SHARP
        };
        assert_eq!(
            judge(true, Some(silent(5000)), LIMITS, woken),
            Verdict::Leave
        );
    }
}
