//! Links libgptoss: from the folder in GPTOSS_LIB_DIR, else from where pkg-config says, else from the linker's paths.
use std::{env, process::Command};

fn main() {
    println!("cargo:rerun-if-env-changed=GPTOSS_LIB_DIR");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    println!("cargo:rustc-link-lib=dylib=gptoss");
    if let Ok(folder) = env::var("GPTOSS_LIB_DIR") {
        println!("cargo:rustc-link-search=native={folder}");
    } else if let Ok(output) = Command::new("pkg-config").args(["--libs-only-L", "gptoss"]).output() {
        for flag in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            println!("cargo:rustc-link-search=native={}", flag.trim_start_matches("-L"));
        }
    }
}
