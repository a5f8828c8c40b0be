//! Hands on where libgptoss lies, so that programs can find it there: see "Finding the library" in lib.rs.
use std::env;

fn main() {
    if let Ok(folder) = env::var("DEP_GPTOSS_LIB_DIR") {
        println!("cargo:lib_dir={folder}");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}"); // for the tests of this crate
    }
}
