//! Threads of the cold tier: a runtime of its own, at a lower priority than the threads that serve hot traffic.
//!
//! A catch-up of many gigabytes checks and moves chunks of megabytes. On the threads that answer producers, each chunk
//! would cause a pause, and where processors are scarce the catch-up would take half of them.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// Nice value of these threads: about a ninth of the weight of a thread at 0 when both want the processor.
const NICE: i32 = 10;
/// Threads that read files for uploads and the disk cache.
const BLOCKING_THREADS: usize = 16;

/// The runtime; dropping it ends its tasks without waiting for them.
pub struct ColdThreads(Option<Runtime>);

impl ColdThreads {
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("cold")
            .max_blocking_threads(BLOCKING_THREADS)
            .enable_all()
            .on_thread_start(|| {
                // Linux applies this to the calling thread. Without it cold reads are merely less polite.
                if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                    tracing::debug!(%error, "the priority of a cold thread could not be lowered");
                }
            })
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub fn handle(&self) -> &Handle {
        self.0.as_ref().expect("taken only when dropped").handle()
    }
}

impl Drop for ColdThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
