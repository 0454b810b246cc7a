//! A broker as a process of its own: started with properties, stopped by SIGTERM, watched for its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Nothing may take longer: a start, a request, a stop.
pub const LIMIT: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(3);

pub struct Process {
    child: Child,
    log: PathBuf,
    /// The address of the clients' listener; `None` for a process that has none.
    pub address: Option<String>,
}

/// How a start ended.
pub enum Start {
    Up(Process),
    /// The process ended by itself with this last line.
    Refused(String),
}

/// Escapes any text for a properties file of Java.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for unit in text.encode_utf16() {
        match char::from_u32(u32::from(unit)).filter(char::is_ascii_alphanumeric) {
            Some(c) => escaped.push(c),
            None => escaped.push_str(&format!("\\u{unit:04x}")),
        }
    }
    escaped
}

/// Starts a broker that works in `directory`. `Err` if it neither serves nor ends in time, or if it panicked.
pub fn start(
    binary: &Path,
    directory: &Path,
    properties: &[(String, String)],
) -> Result<Start, String> {
    let config = directory.join("server.properties");
    let lines = properties.iter();
    let lines = lines.map(|(key, value)| format!("{}={}\n", escaped(key), escaped(value)));
    std::fs::write(&config, lines.collect::<String>()).map_err(|e| e.to_string())?;
    let log = directory.join("log.txt");
    let output = File::create(&log).map_err(|e| e.to_string())?;
    let child = Command::new(binary)
        .arg("server")
        .arg(&config)
        .current_dir(directory)
        .env("NO_COLOR", "1")
        .env_remove("STRANDLINE_LOG")
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(|e| e.to_string())?)
        .stderr(output)
        .spawn()
        .map_err(|e| format!("{}: {e}", binary.display()))?;
    let mut process = Process {
        child,
        log,
        address: None,
    };
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(line) = process.line_with(" started node_id=") {
            let listeners = line.split("listeners=[").nth(1).unwrap_or_default();
            let first = listeners.split([',', ']']).next().unwrap_or_default();
            let address = first.replace("0.0.0.0", "127.0.0.1");
            process.address = Some(address).filter(|a| !a.is_empty());
            return Ok(Start::Up(process));
        }
        if let Some(status) = process.ended() {
            let last = process.last_line();
            return if status.code() == Some(1) && !process.panicked() {
                Ok(Start::Refused(last))
            } else {
                Err(format!("the start ended with {status}: {last}"))
            };
        }
        if Instant::now() > deadline {
            return Err(format!(
                "neither started nor ended in {LIMIT:?}: {}",
                process.last_line()
            ));
        }
        std::thread::sleep(LOOK);
    }
}

impl Process {
    #[allow(dead_code)] // For `tests/limits`.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The status of a process that has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn line_with(&self, words: &str) -> Option<String> {
        let text = self.text();
        text.lines().find(|l| l.contains(words)).map(str::to_owned)
    }

    pub fn last_line(&self) -> String {
        const SHOWN: usize = 500;
        let text = self.text();
        let last = text.lines().last().unwrap_or_default();
        last.chars().take(SHOWN).collect()
    }

    pub fn panicked(&self) -> bool {
        self.text().contains("panicked at")
    }

    /// Stops it by SIGTERM; an error if it takes too long or does not end as it should.
    pub fn stop(mut self) -> Result<(), String> {
        let began = Instant::now();
        if let Some(status) = self.ended() {
            return Err(format!("it had ended with {status}: {}", self.last_line()));
        }
        let told = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        told.map_err(|e| e.to_string())?;
        loop {
            if let Some(status) = self.ended() {
                if self.panicked() {
                    let line = self.line_with("panicked at").unwrap_or_default();
                    return Err(format!("it panicked: {line}"));
                }
                return if status.success() {
                    Ok(())
                } else {
                    Err(format!(
                        "the stop ended with {status}: {}",
                        self.last_line()
                    ))
                };
            }
            if began.elapsed() > LIMIT {
                return Err(format!("not stopped in {LIMIT:?}: {}", self.last_line()));
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
