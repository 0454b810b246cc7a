//! The page at `/`: what this process is, what there is to see, and what to do next.

use std::fmt::Write;

/// The facts on the page.
#[derive(Debug, Default)]
pub(crate) struct Home {
    pub node_id: i32,
    pub cluster_id: Option<String>,
    /// `host:port` for clients.
    pub clients: Option<String>,
    /// `host:port` under which the page was asked for.
    pub http: String,
    pub has_cold_tier: bool,
    /// Everything that keeps clients from being served.
    pub missing: Vec<String>,
}

/// HTML without anything that must be loaded.
pub(crate) fn page(home: &Home) -> String {
    let mut page = String::from("<!doctype html><meta charset=utf-8><title>Strandline</title>\n");
    let id = home.node_id;
    let cluster = home.cluster_id.as_deref().unwrap_or("not known yet");
    let _ = write!(
        page,
        "<h1>Strandline, node {id}</h1>\n<p>Cluster {}. ",
        escaped(cluster)
    );
    if home.missing.is_empty() {
        page.push_str("Ready.</p>\n");
    } else {
        page.push_str("Not ready:</p>\n<ul>\n");
        for reason in &home.missing {
            let _ = writeln!(page, "<li>{}</li>", escaped(reason));
        }
        page.push_str("</ul>\n");
    }
    page.push_str("<ul>\n");
    let mut pages = vec![
        ("/readyz", "whether clients are served, and what is missing"),
        ("/livez", "whether the process runs"),
        ("/metrics", "metrics for Prometheus"),
    ];
    if home.has_cold_tier {
        pages.push(("/tier/status", "the cold tier of each partition"));
        pages.push((
            "/tier/orphans",
            "objects in the bucket that nothing refers to",
        ));
    }
    for (path, meaning) in pages {
        let _ = writeln!(page, "<li><a href=\"{path}\">{path}</a>: {meaning}</li>");
    }
    page.push_str("</ul>\n");
    if let Some(clients) = &home.clients {
        let (clients, http) = (escaped(clients), escaped(&home.http));
        let _ = writeln!(
            page,
            "<p>Kafka clients connect to <code>{clients}</code>. Next:</p>\n<pre>\n\
             strandline kafka-topics --bootstrap-server {clients} --create --topic first\n\
             strandline kafka-console-producer --bootstrap-server {clients} --topic first\n\
             strandline kafka-console-consumer --bootstrap-server {clients} --topic first --from-beginning\n\
             strandline tier status --http {http}\n</pre>"
        );
    }
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_what_there_is_and_what_is_missing() {
        let well = Home {
            node_id: 3,
            cluster_id: Some("abc".into()),
            clients: Some("host:9092".into()),
            http: "host:9644".into(),
            has_cold_tier: true,
            missing: vec![],
        };
        let text = page(&well);
        for part in [
            "node 3",
            "Cluster abc",
            "Ready.",
            "href=\"/metrics\"",
            "href=\"/tier/status\"",
            "--bootstrap-server host:9092 --create",
            "--http host:9644",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let ill = Home {
            missing: vec!["a <b> is full".into()],
            ..Home::default()
        };
        let text = page(&ill);
        assert!(text.contains("<li>a &lt;b&gt; is full</li>"), "{text}");
        assert!(
            !text.contains("kafka-topics") && !text.contains("/tier/status"),
            "{text}"
        );
    }
}
