//! `strandline tier orphans`: lists the objects that the next sweep of the bucket would remove. Removes nothing.

use strandline_tiering::collector::SweepReport;

pub async fn run(http: &str, json: bool) -> Result<(), String> {
    let (status, body) = crate::http_get::get(http, "/tier/orphans").await?;
    if status != 200 {
        return Err(format!(
            "http://{http}/tier/orphans answered {status}: {body}"
        ));
    }
    let report: SweepReport = serde_json::from_str(&body).map_err(|e| e.to_string())?;
    if json {
        println!("{body}");
        return Ok(());
    }
    for orphan in &report.named {
        println!(
            "{} {} bytes, {} s old",
            orphan.key, orphan.bytes, orphan.age_seconds
        );
    }
    println!(
        "{} objects with {} bytes; {} orphans with {} bytes would go; {} unknown ones are too young to tell",
        report.objects, report.bytes, report.orphans, report.orphan_bytes, report.young
    );
    if report.open_uploads > 0 {
        println!(
            "{} unfinished uploads in parts would be aborted",
            report.open_uploads
        );
    }
    if report.too_many {
        println!(
            "that is too large a share of the bucket: the sweep will refuse, see the broker's log"
        );
    }
    Ok(())
}
