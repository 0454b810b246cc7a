//! Production code as syntax trees: the files that a crate's root reaches through `mod`, without `#[cfg(test)]` code.

use std::path::{Path, PathBuf};

use syn::{Attribute, Item};

/// One file of a crate.
pub struct SourceFile {
    /// The crate's name without `strandline-`.
    pub package: String,
    /// The path from the root of the repository.
    pub path: String,
    pub tree: syn::File,
}

pub fn repository() -> PathBuf {
    let tidy = Path::new(env!("CARGO_MANIFEST_DIR"));
    tidy.ancestors().nth(2).unwrap_or(tidy).to_path_buf()
}

/// The crates' folders by name: all in `src`, and `tiering`.
pub fn packages() -> Vec<(String, PathBuf)> {
    let root = repository();
    let mut found = vec![("tiering".to_owned(), root.join("tiering"))];
    for entry in std::fs::read_dir(root.join("src")).expect("src/ can be read") {
        let path = entry.expect("src/ can be read").path();
        if path.join("Cargo.toml").exists() {
            let name = path.file_name().and_then(|n| n.to_str());
            found.push((name.expect("a crate's name is text").to_owned(), path));
        }
    }
    found.sort();
    found
}

/// Every file of production code.
pub fn production() -> Vec<SourceFile> {
    let mut files = Vec::new();
    for (package, folder) in packages() {
        let roots = ["src/lib.rs", "src/main.rs"].map(|root| folder.join(root));
        for root in roots.into_iter().filter(|root| root.exists()) {
            let beside = folder.join("src");
            load(&package, &root, &beside, &mut files);
        }
    }
    assert!(files.len() > 150, "the crates were not found");
    files
}

/// `path`, and the modules that `path` declares: they lie in `beside`.
fn load(package: &str, path: &Path, beside: &Path, files: &mut Vec<SourceFile>) {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tree = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for item in &tree.items {
        load_modules(package, item, beside, files);
    }
    let shown = path.strip_prefix(repository()).unwrap_or(path);
    files.push(SourceFile {
        package: package.to_owned(),
        path: shown.to_string_lossy().into_owned(),
        tree,
    });
}

fn load_modules(package: &str, item: &Item, beside: &Path, files: &mut Vec<SourceFile>) {
    let Item::Mod(module) = item else { return };
    if is_test(&module.attrs) {
        return;
    }
    let name = module.ident.to_string();
    let folder = beside.join(&name);
    if let Some((_, items)) = &module.content {
        for item in items {
            load_modules(package, item, &folder, files);
        }
        return;
    }
    let single = beside.join(format!("{name}.rs"));
    let path = if single.exists() {
        single
    } else {
        folder.join("mod.rs")
    };
    load(package, &path, &folder, files);
}

/// Whether an item exists in tests only.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = quote::quote!(#attribute).to_string();
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && condition.contains("test")
                && !condition.contains("not"))
    })
}
