// The program finds the library where it was linked.
fn main() {
    if let Ok(folder) = std::env::var("DEP_GPTOSS_RUST_LIB_DIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
