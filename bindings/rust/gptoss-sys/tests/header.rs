//! The declarations equal gptoss.h: a C compiler checks every size, offset, value and signature, and every name of the
//! header is there.
use gptoss_sys::{structs, ENUMS, FUNCTIONS};
use std::{collections::BTreeSet, fmt::Write, fs, path::Path, process::Command};

fn include_dir() -> String {
    std::env::var("GPTOSS_INCLUDE_DIR").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../include").into())
}

/// A Rust type as C writes it.
fn c_type(rust: &str) -> String {
    let rust = rust.trim();
    if let Some(inner) = rust.strip_prefix("*mut ") {
        return c_type(inner) + "*";
    }
    if let Some(inner) = rust.strip_prefix("*const ") {
        return c_type(inner) + " const*";
    }
    let plain = match rust {
        "u32" => "uint32_t",
        "u64" => "uint64_t",
        "usize" => "size_t",
        "f32" => "float",
        "f64" => "double",
        "c_int" => "int",
        "c_char" => "char",
        "c_void" => "void",
        name if ENUMS.iter().any(|known| known.0 == name) => return format!("enum {name}"),
        name if structs().iter().any(|known| known.0 == name) => return format!("struct {name}"),
        name => name, // a handle or a callback: the same typedef
    };
    plain.to_string()
}

fn field_name(rust: &str) -> &str {
    rust.trim_start_matches("r#")
}

#[test]
fn declarations_equal_the_header() {
    let mut c = String::from("#include <gptoss.h>\n");
    for (_, values) in ENUMS {
        for (name, value) in *values {
            writeln!(c, "_Static_assert({name} == {value}, \"{name}\");").unwrap();
        }
    }
    for (name, size, fields) in structs() {
        writeln!(c, "_Static_assert(sizeof(struct {name}) == {size}, \"{name}\");").unwrap();
        for (field, offset, size) in fields {
            let field = field_name(field);
            writeln!(c, "_Static_assert(offsetof(struct {name}, {field}) == {offset}, \"{name}.{field}\");").unwrap();
            writeln!(c, "_Static_assert(sizeof(((struct {name}*)0)->{field}) == {size}, \"{name}.{field}\");").unwrap();
        }
    }
    // A second declaration that differs from the first does not compile.
    for (name, result, arguments) in FUNCTIONS {
        let arguments: Vec<String> = arguments.iter().map(|argument| c_type(argument)).collect();
        let arguments = if arguments.is_empty() { "void".to_string() } else { arguments.join(", ") };
        writeln!(c, "{} {name}({arguments});", c_type(result)).unwrap();
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("declarations.c");
    fs::write(&file, c).unwrap();
    let status = Command::new("cc").args(["-std=c11", "-Wall", "-Werror", "-fsyntax-only", "-I", &include_dir()]).arg(&file).status();
    assert!(status.expect("a C compiler, cc").success(), "{} does not compile", file.display());
}

#[test]
fn every_name_of_the_header_is_declared() {
    let header = fs::read_to_string(include_dir() + "/gptoss.h").unwrap();
    let mut code = String::new();
    for (i, part) in header.split("/*").enumerate() {
        code += if i == 0 { part } else { part.split_once("*/").unwrap().1 };
    }
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut known: BTreeSet<&str> = FUNCTIONS.iter().map(|function| function.0).collect();
    for (name, values) in ENUMS {
        known.insert(name);
        known.extend(values.iter().map(|value| value.0));
    }
    for (name, _, fields) in structs() {
        known.insert(name);
        let body = code.split_once(&format!("struct {name} {{")).unwrap().1.split_once('}').unwrap().0;
        // "uint32_t field;" or "char field[256];"
        let in_header: Vec<&str> = body
            .split_terminator(';')
            .filter_map(|field| field.split('[').next().unwrap().split(|c| !word(c)).filter(|part| !part.is_empty()).last())
            .collect();
        let declared: Vec<&str> = fields.iter().map(|field| field_name(field.0)).collect();
        assert_eq!(declared, in_header, "fields of {name}");
    }
    let missing: BTreeSet<&str> = code
        .split(|c| !word(c))
        .filter(|name| name.starts_with("gptoss_") && !name.ends_with("_t") && !known.contains(name))
        .filter(|name| !code.contains(&format!("typedef struct {name}*"))) // opaque
        .collect();
    assert!(missing.is_empty(), "not declared: {missing:?}");
}
