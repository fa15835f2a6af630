#include "../program.h"

#include <limits.h>

#include "../../base/text.h"
#include "../../process/darwin/target.h"

const char program_library[] = "libvp.dylib";
const char program_preload[] = "DYLD_INSERT_LIBRARIES";
const char program_separators[] = ":";

bool program_reachable(const char *path, char *why, size_t size)
{
    char interpreters[2][PATH_MAX];
    struct text text = text_in(why, size);
    for (int depth = 0; depth <= TARGET_SCRIPTS && *path; depth++) {
        char *interpreter = interpreters[depth % 2];
        const char *reason = target_obstacle(path, interpreter, PATH_MAX);
        if (reason) {
            text_addf(&text, "%s%s%s%s: it cannot be shimmed", depth ? "is run by " : "", depth ? path : "",
                      depth ? ", which " : "", reason);
            return false;
        }
        path = interpreter;
    }
    return true;
}
