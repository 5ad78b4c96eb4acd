"""Python tasks for the prompts: several hundred pairs of a signature and what it does, listed or combined."""

_FILTERS = {"even": "even numbers", "odd": "odd numbers", "positive": "positive numbers",
            "negative": "negative numbers", "large": "numbers greater than 100", "unique": "distinct numbers",
            "nonzero": "numbers other than zero",
            "small": "numbers less than 10"}
_FOLDS = {"sum": "the sum of the", "product": "the product of the", "average": "the average of the",
          "largest": "the largest of the", "smallest": "the smallest of the", "count": "how many",
          "list": "a new list with only the", "sorted": "a sorted list of the", "first": "the first of the",
          "last": "the last of the", "squares_of": "a list of the squares of the"}
_CHARS = {"vowels": "vowels", "consonants": "consonants", "digits": "digits", "spaces": "spaces",
          "capitals": "capital letters", "lowercase": "lowercase letters", "punctuation": "punctuation marks"}
_CHAR_ACTIONS = {"count": "counts the {} in a string", "remove": "removes the {} from a string",
                 "keep": "keeps only the {} of a string", "replace": "replaces the {} of a string with a star",
                 "has": "checks whether a string has any {}",
                 "positions_of": "returns the positions of the {} in a string"}
_UNITS = """celsius fahrenheit, fahrenheit celsius, celsius kelvin, kilometres miles, miles kilometres, metres feet,
    feet metres, inches centimetres, centimetres inches, kilograms pounds, pounds kilograms, grams ounces, litres
    gallons, hours minutes, minutes seconds, seconds minutes, days hours, weeks days, degrees radians, radians degrees,
    bytes bits, kilobytes bytes, metres kilometres, grams kilograms, years months, euros cents"""
_CLASSES = """BankAccount: deposit withdraw; Stack: push pop peek; Queue: enqueue dequeue; Rectangle: area perimeter;
    Circle: area circumference; Counter: increment reset; Dog: bark rename; Student: add_grade average; Book: open_page
    close; Library: add_book find_book; ShoppingCart: add_item total; Timer: start stop; Playlist: add_song next_song;
    Temperature: to_celsius to_fahrenheit; Point: move distance; Robot: move turn; Garden: plant harvest; Car:
    accelerate brake; Light: turn_on turn_off; Diary: write read; Dice: roll history; Clock: tick show; Inventory: add
    remove; Player: hit heal; TodoList: add complete; PhoneBook: add lookup; Matrix: get set; Fraction: add multiply;
    Recipe: add_step show; Train: board leave; Elevator: go_up go_down; Menu: add_dish price; Poll: vote winner;
    Wallet: pay receive"""
_LISTED = """reverse_list(items): returns the list in reverse order
    remove_duplicates(items): removes duplicates from a list and keeps the order
    flatten(nested): flattens a list of lists
    chunk(items, size): splits a list into chunks of a given size
    rotate(items, k): rotates a list to the left by k places
    second_largest(numbers): returns the second largest number in a list
    is_sorted(numbers): checks whether a list is sorted
    merge_sorted(a, b): merges two sorted lists into one sorted list
    common_items(a, b): returns the items that two lists share
    difference(a, b): returns the items of one list that are not in another
    interleave(a, b): takes items from two lists in turn
    running_total(numbers): returns the running totals of a list
    pairs_with_sum(numbers, target): finds all pairs of numbers with a given sum
    move_zeros(numbers): moves all zeros to the end of a list
    binary_search(numbers, target): finds a number in a sorted list by binary search
    linear_search(items, target): returns the index of an item or -1
    bubble_sort(numbers): sorts a list with bubble sort
    insertion_sort(numbers): sorts a list with insertion sort
    selection_sort(numbers): sorts a list with selection sort
    merge_sort(numbers): sorts a list with merge sort
    quick_sort(numbers): sorts a list with quick sort
    median(numbers): returns the median of a list
    mode(numbers): returns the most common number in a list
    value_range(numbers): returns the difference between the largest and smallest number
    longest_word(words): returns the longest word in a list
    shortest_word(words): returns the shortest word in a list
    sort_by_length(words): sorts words by their length
    group_by_first_letter(words): groups words by their first letter
    transpose(rows): swaps the rows and columns of a table
    every_nth(items, n): returns every nth item of a list
    reverse_string(text): reverses a string
    is_palindrome(text): checks whether a string reads the same both ways
    are_anagrams(a, b): checks whether two words use the same letters
    count_words(text): counts the words in a text
    count_letter(text, letter): counts how often a letter appears in a text
    capitalize_words(text): makes the first letter of every word a capital
    reverse_words(text): reverses the order of the words in a sentence
    caesar_cipher(text, shift): shifts every letter by a fixed number of places
    acronym(phrase): makes an acronym from the first letters of a phrase
    compress(text): replaces runs of the same letter with the letter and a count
    expand(text): turns a text such as a3b2 into aaabb
    common_prefix(words): finds the longest common prefix of a list of words
    is_email(text): checks whether a string looks like an email address
    truncate(text, limit): cuts a text to a limit and adds three dots
    pad_left(text, width): fills a text with spaces on the left
    repeat_text(text, times): repeats a string a given number of times
    snake_to_camel(name): turns snake_case into camelCase
    camel_to_snake(name): turns camelCase into snake_case
    slugify(title): turns a title into a lowercase name with dashes
    first_unique_letter(text): returns the first letter that appears only once
    letter_frequency(text): counts how often every letter appears
    word_frequency(text): counts how often every word appears
    invert_dict(mapping): swaps the keys and values of a dictionary
    merge_dicts(a, b): merges two dictionaries and adds the values of shared keys
    sort_by_value(mapping): returns the items of a dictionary sorted by value
    key_of_max(mapping): returns the key with the largest value
    filter_by_value(mapping, limit): keeps the entries whose value is above a limit
    zip_to_dict(keys, values): builds a dictionary from two lists
    count_items(items): counts how often each item appears in a list
    get_nested(mapping, path): looks up a value in nested dictionaries
    total_price(cart): adds up price times quantity in a dictionary
    rename_key(mapping, old, new): renames a key of a dictionary
    factorial(n): returns the factorial of a number
    fibonacci(n): returns the first n Fibonacci numbers
    is_prime(n): checks whether a number is prime
    primes_up_to(limit): returns all primes up to a limit
    gcd(a, b): returns the greatest common divisor of two numbers
    lcm(a, b): returns the least common multiple of two numbers
    power(base, exponent): raises a number to a power with a loop
    digit_sum(n): adds up the digits of a number
    reverse_number(n): reverses the digits of a number
    is_perfect(n): checks whether a number equals the sum of its divisors
    divisors(n): returns all divisors of a number
    prime_factors(n): returns the prime factors of a number
    to_binary(n): turns a number into a binary string
    from_binary(text): turns a binary string into a number
    to_roman(n): turns a number into a Roman numeral
    from_roman(text): turns a Roman numeral into a number
    is_leap_year(year): checks whether a year is a leap year
    collatz(n): returns the Collatz sequence of a number
    square_root(x): finds a square root with Newton's method
    clamp(x, low, high): keeps a number within two limits
    distance(x1, y1, x2, y2): returns the distance between two points
    triangle_area(base, height): returns the area of a triangle
    circle_area(radius): returns the area of a circle
    hypotenuse(a, b): returns the longest side of a right triangle
    sum_of_squares(n): adds the squares of the numbers from 1 to n
    multiplication_table(n): prints the multiplication table of a number
    compound_interest(amount, rate, years): returns an amount with compound interest
    discount(price, percent): returns the price after a discount
    tip(bill, percent): returns the tip for a bill
    split_bill(total, people): divides a bill among several people
    grade(score): turns a score into a letter grade
    bmi(weight, height): returns the body mass index
    fizz_buzz(n): prints the FizzBuzz sequence up to n
    countdown(n): counts down from n to zero
    guess_number(secret, guess): says whether a guess is too high or too low or right
    rock_paper_scissors(a, b): says which player wins
    roll_dice(count): rolls several dice and returns the results
    shuffle_list(items): shuffles a list without changing the original
    random_password(length): makes a random password
    print_triangle(n): prints a triangle of stars with n rows
    print_square(n): prints a square of stars
    read_lines(path): returns the lines of a file without line breaks
    count_lines(path): counts the lines of a file
    count_words_in_file(path): counts the words of a text file
    find_in_file(path, word): returns the lines of a file that contain a word
    copy_file(source, target): copies a text file
    append_line(path, line): appends a line to a file
    longest_line(path): returns the longest line of a file
    read_csv(path): reads a CSV file into a list of dictionaries
    write_csv(path, rows): writes a list of dictionaries to a CSV file
    read_json(path): reads a JSON file and returns the data
    save_json(path, data): saves data to a JSON file
    list_files(folder, ending): lists the files in a folder with a given ending
    file_size(path): returns the size of a file in kilobytes
    matrix_multiply(a, b): multiplies two matrices given as lists of lists
    identity_matrix(n): returns the identity matrix of size n
    dot_product(a, b): returns the dot product of two vectors
    is_magic_square(square): checks whether a grid is a magic square
    balanced_brackets(text): checks whether the brackets in a text are balanced
    binary_to_hex(text): turns a binary string into a hexadecimal string
    days_between(start, end): returns the number of days between two dates
    weekday(date): returns the name of the weekday of a date
    format_time(seconds): turns seconds into hours and minutes and seconds
    parse_time(text): turns a text such as 12:30 into minutes
    retry(function, times): calls a function again when it raises an error
    measure_time(function): measures how long a function takes
    memoize(function): remembers the results of a function
    compose(f, g): returns the function that applies g and then f
    apply_all(functions, value): applies several functions to a value
    depth(nested): returns how deeply a list is nested
    count_down_recursive(n): counts down with recursion
    hanoi(n): solves the Towers of Hanoi for n discs
    permutations(items): returns all permutations of a list
    subsets(items): returns all subsets of a list
    count_paths(rows, columns): counts the paths through a grid
    flood_fill(grid, row, column): fills a region of a grid with a new value
    neighbours(grid, row, column): returns the neighbours of a cell in a grid
    shortest_path(graph, start, end): finds a shortest path with breadth-first search
    tree_height(tree): returns the height of a binary tree"""


def _all_tasks() -> tuple[tuple[str, str], ...]:
    """(signature, what it does) of every function task."""
    tasks = [tuple(part.strip() for part in line.split(": ", 1)) for line in _LISTED.splitlines()]
    for fold, does in _FOLDS.items():
        for name, numbers in _FILTERS.items():
            end = "are in a list" if fold == "count" else "in a list"
            tasks.append((f"{fold}_{name}(numbers)", f"returns {does} {numbers} {end}"))
    for action, does in _CHAR_ACTIONS.items():
        tasks += [(f"{action}_{name}(text)", does.format(chars)) for name, chars in _CHARS.items()]
    for pair in _UNITS.split(","):
        source, target = pair.split()
        tasks.append((f"{source}_to_{target}({source})", f"converts {source} to {target}"))
    return tuple(tasks)


def _all_classes() -> tuple[tuple[str, str], ...]:
    """(class name, its methods in words) of every class task."""
    pairs = [part.split(":") for part in _CLASSES.split(";")]
    return tuple((name.strip(), " and ".join(f"`{m}`" for m in methods.split()[:2])) for name, methods in pairs)


FUNCTIONS = _all_tasks()
CLASSES = _all_classes()
