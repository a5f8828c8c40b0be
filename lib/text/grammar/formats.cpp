#include "text/grammar/formats.h"

#include <algorithm>

namespace gptoss::text {

namespace {

// Days that exist: 29 February in leap years only.
#define GPTOSS_DATE                                                                                                  \
    "(?:\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d" \
    "|2[0-8]))|(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
#define GPTOSS_TIME "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d+)?(?:[zZ]|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
#define GPTOSS_LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define GPTOSS_HOST GPTOSS_LABEL "(?:\\." GPTOSS_LABEL ")*"
#define GPTOSS_ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
#define GPTOSS_OCTET "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define GPTOSS_IPV4 GPTOSS_OCTET "(?:\\." GPTOSS_OCTET "){3}"
#define GPTOSS_H16 "[0-9A-Fa-f]{1,4}"
#define GPTOSS_LS32 "(?:" GPTOSS_H16 ":" GPTOSS_H16 "|" GPTOSS_IPV4 ")"
#define GPTOSS_IPV6                                                                                         \
    "(?:(?:" GPTOSS_H16 ":){6}" GPTOSS_LS32 "|::(?:" GPTOSS_H16 ":){5}" GPTOSS_LS32 "|(?:" GPTOSS_H16       \
    ")?::(?:" GPTOSS_H16 ":){4}" GPTOSS_LS32 "|(?:(?:" GPTOSS_H16 ":){0,1}" GPTOSS_H16 ")?::(?:" GPTOSS_H16 \
    ":){3}" GPTOSS_LS32 "|(?:(?:" GPTOSS_H16 ":){0,2}" GPTOSS_H16 ")?::(?:" GPTOSS_H16 ":){2}" GPTOSS_LS32  \
    "|(?:(?:" GPTOSS_H16 ":){0,3}" GPTOSS_H16 ")?::" GPTOSS_H16 ":" GPTOSS_LS32 "|(?:(?:" GPTOSS_H16        \
    ":){0,4}" GPTOSS_H16 ")?::" GPTOSS_LS32 "|(?:(?:" GPTOSS_H16 ":){0,5}" GPTOSS_H16 ")?::" GPTOSS_H16     \
    "|(?:(?:" GPTOSS_H16 ":){0,6}" GPTOSS_H16 ")?::)"
#define GPTOSS_UNRESERVED "A-Za-z0-9._~\\-"
#define GPTOSS_SUB "!$&'()*+,;="
#define GPTOSS_PERCENT "%[0-9A-Fa-f]{2}"
#define GPTOSS_PCHAR "(?:[" GPTOSS_UNRESERVED GPTOSS_SUB ":@]|" GPTOSS_PERCENT ")"
#define GPTOSS_AUTHORITY                                                                  \
    "(?:(?:[" GPTOSS_UNRESERVED GPTOSS_SUB ":]|" GPTOSS_PERCENT ")*@)?(?:\\[" GPTOSS_IPV6 \
    "\\]|(?:[" GPTOSS_UNRESERVED GPTOSS_SUB "]|" GPTOSS_PERCENT ")*)(?::\\d*)?"
#define GPTOSS_TAIL "(?:\\?(?:" GPTOSS_PCHAR "|[/?])*)?(?:#(?:" GPTOSS_PCHAR "|[/?])*)?"
#define GPTOSS_URI                                                                                                    \
    "[A-Za-z][A-Za-z0-9+.-]*:(?://" GPTOSS_AUTHORITY "(?:/" GPTOSS_PCHAR "*)*|/(?:" GPTOSS_PCHAR "+(?:/" GPTOSS_PCHAR \
    "*)*)?|" GPTOSS_PCHAR "+(?:/" GPTOSS_PCHAR "*)*|)" GPTOSS_TAIL
#define GPTOSS_RELATIVE                                                                       \
    "(?://" GPTOSS_AUTHORITY "(?:/" GPTOSS_PCHAR "*)*|/(?:" GPTOSS_PCHAR "+(?:/" GPTOSS_PCHAR \
    "*)*)?|(?:[" GPTOSS_UNRESERVED GPTOSS_SUB "@]|" GPTOSS_PERCENT ")+(?:/" GPTOSS_PCHAR "*)*|)" GPTOSS_TAIL

constexpr Format formats[] = {
    {"date", GPTOSS_DATE},
    {"time", GPTOSS_TIME},
    {"date-time", GPTOSS_DATE "[tT]" GPTOSS_TIME},
    {"duration",
     "P(?:\\d+W|(?:\\d+Y(?:\\d+M(?:\\d+D)?)?|\\d+M(?:\\d+D)?|\\d+D)(?:T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|"
     "\\d+S))?|T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S))"},
    {"email", GPTOSS_ATOM "(?:\\." GPTOSS_ATOM ")*@" GPTOSS_HOST, 254},
    {"hostname", GPTOSS_HOST, 253},
    {"ipv4", GPTOSS_IPV4},
    {"ipv6", GPTOSS_IPV6},
    {"uri", GPTOSS_URI},
    {"uri-reference", "(?:" GPTOSS_URI "|" GPTOSS_RELATIVE ")"},
    {"uuid", "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"},
    {"json-pointer", "(?:/(?:[^~/]|~[01])*)*"},
    {"relative-json-pointer", "(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^~/]|~[01])*)*)"},
};

constexpr std::string_view annotations[] = {
    "int32", "int64", "float",    "double", "byte",     "binary", "password", "decimal",
    "color", "html",  "markdown", "text",   "textarea", "string", "number",   "integer",
};

}  // namespace

const Format* find_format(std::string_view name) {
    const Format* found =
        std::find_if(std::begin(formats), std::end(formats), [&](const Format& format) { return format.name == name; });
    return found == std::end(formats) ? nullptr : found;
}

bool is_annotation(std::string_view format) {
    return std::find(std::begin(annotations), std::end(annotations), format) != std::end(annotations);
}

}  // namespace gptoss::text
