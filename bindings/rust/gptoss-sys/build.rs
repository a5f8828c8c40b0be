//! Links libgptoss: from the folder in GPTOSS_LIB_DIR, else from where pkg-config says, else from the linker's paths. Says
//! so where it is in none of them, which the linker would say less clearly; GPTOSS_LIB_DIR="" leaves that to the linker.
use std::{env, fs, path::Path, process::Command};

/// The folders that are named for the library; none where the linker and the loader know it.
fn folders() -> Vec<String> {
    if let Ok(folder) = env::var("GPTOSS_LIB_DIR") {
        return if folder.is_empty() { vec![] } else { vec![folder] };
    }
    let output = match Command::new("pkg-config").args(["--libs-only-L", "gptoss"]).output() {
        Ok(output) if output.status.success() => output.stdout,
        _ => return vec![],
    };
    let flags = String::from_utf8_lossy(&output).into_owned();
    flags.split_whitespace().map(|flag| flag.trim_start_matches("-L").to_string()).collect()
}

fn is_in(folder: &str) -> bool {
    let names = ["libgptoss.so", "libgptoss.dylib", "libgptoss.a", "gptoss.lib", "libgptoss.dll.a"];
    names.iter().any(|name| Path::new(folder).join(name).exists())
}

/// Whether the linker finds the library by itself.
fn linker_finds_it() -> bool {
    let out = Path::new(&env::var("OUT_DIR").unwrap()).join("probe");
    let linker = env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".into());
    let found = Command::new(linker).args(["-shared", "-lgptoss", "-o"]).arg(&out).output();
    let _ = fs::remove_file(out);
    found.map_or(true, |output| output.status.success())
}

fn main() {
    println!("cargo:rerun-if-env-changed=GPTOSS_LIB_DIR");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    println!("cargo:rustc-link-lib=dylib=gptoss");
    let folders = folders();
    for folder in &folders {
        println!("cargo:rustc-link-search=native={folder}");
        println!("cargo:lib_dir={folder}"); // DEP_GPTOSS_LIB_DIR in the build script of the crate gptoss
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}"); // for the tests of this crate
    }
    let checked = env::var("GPTOSS_LIB_DIR").map_or(true, |folder| !folder.is_empty());
    if checked && !folders.iter().any(|folder| is_in(folder)) && !linker_finds_it() {
        eprintln!(
            "libgptoss was not found{}. Install it (cmake --install build), or set GPTOSS_LIB_DIR to the folder of \
             libgptoss.so, or PKG_CONFIG_PATH to that of gptoss.pc.",
            if folders.is_empty() { String::new() } else { format!(" in {}", folders.join(", ")) }
        );
        std::process::exit(1);
    }
}
