<?php echo "the blog\n";
