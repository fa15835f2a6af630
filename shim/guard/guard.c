#include "guard.h"

struct guard guard;
