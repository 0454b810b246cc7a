//! The order of copies that overlap: each waits until the one before it is finished.

use tokio::sync::oneshot;

/// A place in the order. Dropped without [`Turn::pass_on`], it tells those behind that they cannot finish.
#[derive(Debug)]
pub struct Turn {
    before: Option<oneshot::Receiver<()>>,
    behind: oneshot::Sender<()>,
}

/// The order's places, the first one first.
pub fn turns() -> impl Iterator<Item = Turn> {
    let mut before = None;
    std::iter::from_fn(move || {
        let (behind, next) = oneshot::channel();
        let before = before.replace(next);
        Some(Turn { before, behind })
    })
}

impl Turn {
    /// Returns when the one before is finished. Cancel safe.
    pub async fn wait(&mut self) -> Result<(), String> {
        if let Some(before) = &mut self.before {
            let finished = before.await;
            finished.map_err(|_| "the copy of the segment before has failed".to_owned())?;
            self.before = None;
        }
        Ok(())
    }

    /// The next one may finish.
    pub fn pass_on(self) {
        // Without a next one nobody listens.
        let _ = self.behind.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_waits_for_the_one_before_and_a_failure_ends_those_behind() {
        let mut order = turns();
        let mut next = || order.next().unwrap();
        let (mut one, mut two, mut three, mut four) = (next(), next(), next(), next());
        one.wait().await.unwrap();
        {
            let mut waiting = Box::pin(two.wait());
            assert!(futures::poll!(&mut waiting).is_pending());
            one.pass_on();
            waiting.await.unwrap();
        }
        two.wait().await.unwrap();
        drop(two);
        assert!(three.wait().await.is_err());
        drop(three);
        assert!(four.wait().await.is_err());
    }
}
