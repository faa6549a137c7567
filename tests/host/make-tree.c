/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* usage: make-tree DESCRIPTION DIRECTORY */
#include "tree.h"

int main(int argc, char **argv)
{
    g_autofree char *text = NULL;
    if (argc != 3 || !g_file_get_contents(argv[1], &text, NULL, NULL))
        return 2;
    tree_make(argv[2], text);
    return 0;
}
